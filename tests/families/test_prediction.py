"""What a family predicts is what ComfyUI predicts, and diffusers."""

import comfy.model_management as memory
import pytest
import torch
from kontext.trainer import host
from kontext.trainer.batch import Text
from kontext.trainer.families import family_of

from .miniatures import load_model, qwen_weights


@pytest.mark.parametrize("references", [0, 1, 2])
def test_it_is_that_of_comfyuis_own_sampler(family, model, miniature, make_batch, references):
    """Reference: one step of CFGGuider on the conditioning of ReferenceLatent and FluxGuidance."""
    batch, sigma = make_batch(1, references), torch.tensor([0.7])
    frame = (1,) * (model.model.latent_format.latent_dimensions - 2)

    def framed(latent):
        return latent.reshape(*latent.shape[:2], *frame, *latent.shape[2:])

    raw = [model.model.process_latent_out(framed(each)) for each in batch.references]
    positive = host.conditioning(batch.text, raw, miniature.guidance)
    noised, given = framed(batch.target), (batch.text, batch.references, miniature.guidance)
    with torch.inference_mode():
        memory.load_models_gpu([model])
        ours = family.predict(batch.target, sigma, *given)
        clean = one_step(model, noised, sigma, positive)
    theirs = ((noised - clean) / sigma).reshape(batch.target.shape)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * 2)


def test_a_2511_without_its_mark_is_what_comfyuis_own_graph_makes_of_it(folder):
    """By its name. Reference: the same weights with the mark, which ComfyUI reads itself."""
    stripped = load_model(qwen_weights(), folder / "qwen_image_edit_2511_stripped.safetensors")
    marked = load_model(qwen_weights(timestep_zero=True), folder / "marked.safetensors")
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(1, 16, 8, 8, generator=generator) for _ in range(2)]
    given = Text(torch.randn(1, 7, 32, generator=generator)), latents[1:], 1.0
    sigma = torch.tensor([0.7])
    with torch.inference_mode():
        ours, theirs = (
            family_of(model).predict(latents[0], sigma, *given) for model in (stripped, marked)
        )
        raw = [stripped.model.process_latent_out(latents[1].unsqueeze(2))]
        positive = host.conditioning(*given[:1], raw, 1.0, family_of(stripped).reference_method)
        sampled = one_step(stripped, latents[0].unsqueeze(2), sigma, positive).squeeze(2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close((latents[0] - sampled) / sigma, theirs, rtol=0, atol=2e-5)


def one_step(model, noised, sigma, positive):
    """The clean latent, normalised, that CFGGuider makes of a noised one."""
    import comfy.samplers

    class Once:
        def max_denoise(self, *_):
            return False

        def sample(self, wrap, sigmas, extra_args, *_, **__):
            return wrap(noised, sigma, **extra_args)

    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": positive})
    empty = torch.zeros_like(noised)
    ends = torch.tensor([sigma.item(), 0.0])
    raw = guider.sample(empty, empty, Once(), ends, disable_pbar=True, seed=0)
    return model.model.process_latent_in(raw)


def test_a_batch_is_its_samples_one_by_one(family, model, miniature, make_batch):
    """With captions of unequal length where the family pads them."""
    from kontext.trainer.batch import Text, stacked

    batch, sigma = make_batch(2), torch.tensor([0.3, 0.8])
    pooled = [None, None] if batch.text.pooled is None else batch.text.pooled.split(1)
    texts = [Text(*parts) for parts in zip(batch.text.cond.split(1), pooled, strict=True)]
    if family.pads_text:
        texts[0] = Text(texts[0].cond[:, :4])
    with torch.inference_mode():
        memory.load_models_gpu([model])
        both = family.predict(
            batch.target, sigma, stacked(texts), batch.references, miniature.guidance
        )
        one_by_one = [
            family.predict(
                batch.target[i : i + 1],
                sigma[i : i + 1],
                texts[i],
                [each[i : i + 1] for each in batch.references],
                miniature.guidance,
            )
            for i in range(2)
        ]
    torch.testing.assert_close(both, torch.cat(one_by_one), rtol=0, atol=1e-5)
