"""Counts what the checks find in the planted sets and in real pairs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kontext.dataset.check import check, duplicates, swapped
from kontext.dataset.check_pair import look_at
from kontext.dataset.finding import NOTE, Finding
from kontext.dataset.pair import Pair
from PIL import Image
from planted import PlantedSet, planted_sets, swap_sets

KINDS = ("swapped", "shifted", "zoomed", "duplicate", "identical", "orphan", "everything changed")


@dataclass
class Tally:
    planted: int = 0
    found: int = 0
    false: int = 0

    @property
    def recall(self) -> float:
        return self.found / self.planted

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.false)


def score(folder: Path, numbers: Iterable[int] = range(100, 114)) -> dict[str, Tally]:
    """Tally per kind over planted sets and swap sets. Thresholds were chosen on sets 0 to 13."""
    tallies = {kind: Tally() for kind in KINDS}
    for case in planted_sets(folder, numbers):
        findings = check(case.dataset)
        _count(tallies, case, _labels(findings))
    for _, case in swap_sets(folder):
        looks = [look_at(pair).worse for pair in case.dataset]
        findings = swapped(case.dataset.pairs, looks)
        _count(tallies, case, _labels(findings))
    return tallies


def _labels(findings: list[Finding]) -> set[tuple[str, str]]:
    labels = set()
    for finding in findings:
        name = " ".join(finding.stems)
        if finding.kind == "orphan":
            name = finding.message.split()[3]
        labels.add((finding.kind, name))
    return labels


def _count(tallies: dict[str, Tally], case: PlantedSet, labels: set[tuple[str, str]]) -> None:
    for kind, tally in tallies.items():
        wanted = {label for label in case.planted if label[0] == kind}
        given = {label for label in labels if label[0] == kind}
        tally.planted += len(wanted)
        tally.found += len(wanted & given)
        tally.false += len(given - wanted)
        for label in wanted ^ given:
            print("missed" if label in wanted else "false", *label, case.dataset.pairs[0].target)


# Looked at one by one. These thumbnails do not show one picture before and after an edit:
NOT_EDITS = frozenset(
    "api_nano_banana_pro image_flux2_klein_9b_kv_image_edit flux_kontext_dev_basic "
    "flux1_dev_uso_reference_image_gen api_runway_reference_to_image api_luma_photon_i2i "
    "api_bfl_flux_1_kontext_multiple_images_input api_bfl_flux_1_kontext_max_image "
    "api_openai_image_1_multi_inputs api_luma_photon_style_ref templates-assemble_dieline "
    "templates_mjm_image_to_3d utility_sdpose_ood_image_to_pose 02_qwen_Image_edit_subgraphed "
    "image_omnigen2_image_edit".split()
)
# In these the edited picture carries the 2.
REVERSED = frozenset(
    "hidream_e1_full hidream_e1_1 api_openai_image_1_i2i api_openai_image_1_inpaint "
    "templates-color_illustration".split()
)
# Here the target really is scaled or moved: undoing it raises the correlation by half or more,
# or the subject has visibly moved.
MOVED = frozenset(
    "image_longcat_image_edit image_flux2_klein_image_edit_9b_distilled image_joyai_image_edit "
    "utility_nanobanana_pro_product_upscale gsl_creator_2 "
    "api_grok_imagine_image_quality_image_edit".split()
)
# Two edits of one photograph.
TWICE = {("api_openai_image_1_i2i", "api_openai_image_1_inpaint")}


def template_pairs() -> list[Pair]:
    """The static before/after thumbnails of one size in ComfyUI's template packages."""
    packages = Path(find_spec("comfyui_workflow_templates_json").origin).parents[1]
    index = packages / "comfyui_workflow_templates_json" / "templates" / "index.json"
    media = packages.glob("comfyui_workflow_templates_media*/templates/*")
    files = {path.name: path for path in media}
    pairs = []
    for category in json.loads(index.read_text(encoding="utf-8")):
        for template in category["templates"]:
            name, suffix = template["name"], template.get("mediaSubtype", "webp")
            after, before = (files.get(f"{name}-{side}.{suffix}") for side in (1, 2))
            if template.get("thumbnailVariant") not in ("compareSlider", "hoverDissolve"):
                continue
            if not (after and before) or name in NOT_EDITS:
                continue
            with Image.open(after) as first, Image.open(before) as second:
                still = max(getattr(i, "n_frames", 1) for i in (first, second)) == 1
                if not still or first.size != second.size:
                    continue
            if name in REVERSED:
                after, before = before, after
            pairs.append(Pair(name, (before,), after, ""))
    return pairs


def template_alarms() -> tuple[int, list[tuple[str, str]]]:
    """Real pairs looked at, and (kind, stem) of each error or warning that is not so."""
    pairs = template_pairs()
    looks = {pair.stem: look_at(pair) for pair in pairs}
    findings = [finding for look in looks.values() for finding in look.findings]
    findings += swapped(pairs, [look.worse for look in looks.values()])
    findings += duplicates(pairs, looks)
    alarms = []
    for finding in findings:
        true = finding.stems in TWICE or (
            finding.kind in ("shifted", "zoomed") and finding.stems[0] in MOVED
        )
        # The thumbnails are 400 pixels wide: that they are small is no false alarm.
        if finding.severity != NOTE and finding.kind != "low resolution" and not true:
            alarms.append((finding.kind, " ".join(finding.stems)))
    return len(pairs), alarms
