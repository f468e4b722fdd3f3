"""One miniature of every member, loaded once for all tests."""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.batch import Batch, Text
from kontext.trainer.families import family_of
from kontext.trainer.network.lora import Lora

from ..streaming import as_card as as_card
from .miniatures import MINIATURES, load_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("miniatures")


@pytest.fixture(scope="session", params=MINIATURES)
def miniature(request):
    return MINIATURES[request.param]


@pytest.fixture(scope="session")
def weights(miniature):
    return miniature.weights(**miniature.options)


@pytest.fixture
def model(miniature, weights, folder):
    return load_model(weights, folder / miniature.file)


@pytest.fixture
def family(model):
    return family_of(model)


@pytest.fixture(scope="session")
def encoders(folder):
    """CLIP and VAE of a miniature, each loaded once."""
    loaded = {}

    def load(miniature):
        for make, give in (
            (miniature.clip, lambda make: make(folder)),
            (miniature.vae, lambda make: make()),
        ):
            if make not in loaded:
                loaded[make] = give(make)
        return loaded[miniature.clip], loaded[miniature.vae]

    return load


@pytest.fixture
def base(miniature, model, encoders):
    if miniature.clip is None:
        pytest.skip("its text encoder does not load with this transformers")
    return host.Base(model, *encoders(miniature))


@pytest.fixture
def make_batch(miniature):
    """Normalised latents and text, random."""

    def make(size: int, references: int = 2, tokens: int = 7, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(size, *shape, generator=generator)

        shown = tuple(draw(*shape) for shape in miniature.references[:references])
        cond, pooled = draw(tokens, miniature.text_width), miniature.pooled
        text = Text(cond, draw(pooled) if pooled else None)
        return Batch(draw(*miniature.latent), shown, text)

    return make


@pytest.fixture
def lora(family):
    """On every linear that can be trained, doing something."""
    parts = family.network.named_modules()
    linears = {name: host.FrozenLinear(part) for name, part in parts if host.is_linear(part)}
    lora = Lora.create({n: linears[n] for n in family.targeted(linears, "all")}, 4, 2.0, 0)
    generator = torch.Generator().manual_seed(1)
    for layer in lora.layers.values():
        layer.up.data.normal_(std=0.05, generator=generator)
    return lora
