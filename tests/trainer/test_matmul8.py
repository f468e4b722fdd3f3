"""Products in 8 bits stay within the bounds that follow from their scales."""

from contextlib import contextmanager

import pytest
import torch
from kontext.trainer import host, matmul8
from kontext.trainer.adapters import Dora
from kontext.trainer.matmul8 import FORMATS, Linear8, Products, check_device

from .short_runs import SHORT, assert_same, interrupt_after, last_lora

FORMAT = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


class Plain(torch.nn.Module):
    """A frozen linear of its own weight, as `Products` takes it."""

    input_scale = None

    def __init__(self, weight, bias=None):
        super().__init__()
        self.weight, self.bias = weight, bias
        self.out_features, self.in_features = weight.shape

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def backward(self, gradient):
        return gradient @ self.weight

    def across(self, rows):
        return rows @ self.weight

    @contextmanager
    def dense(self, like):
        yield self.weight, self.bias


def uneven(*shape):
    """Rows of very different sizes, and a few values that stand out."""
    values = torch.randn(shape) * torch.logspace(-3, 2, shape[0])[:, None]
    return values.where(torch.rand(shape) > 0.01, values * 10)


def off_by(matrix, form):
    """The most that rounding changes each value, from the definition of the format.

    int8: half a unit. e4m3: 3 bits after the point, so 2⁻⁴ of the value; below 2⁻⁶ half of 2⁻⁹.
    """
    matrix = matrix.double()
    scale = matrix.abs().amax(1, keepdim=True) / form.largest
    if form.name == "int8":
        return scale.expand_as(matrix) / 2
    return torch.maximum(matrix.abs() / 16, scale * 2**-10)


@FORMAT
def test_rounding_is_to_the_nearest(form):
    matrix = uneven(40, 48)
    rounded = form.round(matrix)
    back = rounded.values.double() * rounded.scale.double()
    assert rounded.values.dtype == form.dtype and rounded.values.float().abs().max() == form.largest
    assert ((back - matrix).abs() <= off_by(matrix, form) * (1 + 1e-5)).all()


@FORMAT
@pytest.mark.parametrize("rows", [30, 100])
def test_forward_within_its_bound(form, rows, monkeypatch):
    """Reference: the product in float64. |Σ xw - Σ x̂ŵ| ≤ Σ |x| δw + |w| δx + δx δw."""
    monkeypatch.setattr(matmul8, "MOST_ROWS", 32)  # in parts
    x, weight = uneven(rows, 96), uneven(64, 96)
    ours = matmul8.forward_product(x, form.round(weight), form).double()
    exact = x.double() @ weight.double().T
    dx, dw = off_by(x, form), off_by(weight, form)
    bound = x.double().abs() @ dw.T + dx @ weight.double().abs().T + dx @ dw.T
    assert ((ours - exact).abs() <= bound * (1 + 1e-3)).all()
    assert (ours - exact).abs().max() > 0


@FORMAT
def test_backward_within_its_bound(form):
    """Reference: the product in float64. What is rounded of g is g times the channels' scales."""
    gradient, weight = uneven(100, 64), uneven(64, 96)
    rounded = form.round(weight)
    ours = matmul8.backward_product(gradient, rounded, form).double()
    exact = gradient.double() @ weight.double()
    scaled = gradient * rounded.scale.T
    values = rounded.values.double().abs()
    bound = gradient.double().abs() @ off_by(weight, form) + off_by(scaled, form) @ values
    assert ((ours - exact).abs() <= bound * (1 + 1e-3)).all()


@FORMAT
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_close_to_the_exact_one(form, dtype):
    """3.7 % for fp8, 1.1 % for int8: what independent rounding of both sides gives in theory."""
    expected = {"fp8": 0.037, "int8": 0.011}[form.name]
    base = Plain(torch.randn(64, 96).to(dtype), torch.randn(64).to(dtype))
    layer, x, gradient = Linear8(base, form), torch.randn(2, 50, 96), torch.randn(2, 50, 64)
    layer.errors = {"forward": 0.0, "backward": 0.0}
    for ours, exact in [
        (layer.forward(x.to(dtype)), base.forward(x.to(dtype))),
        (layer.backward(gradient.to(dtype)), base.backward(gradient.to(dtype))),
    ]:
        assert ours.dtype == dtype and ours.shape == exact.shape
        error = (ours - exact).float().norm() / exact.float().norm()
        assert 0.6 * expected < error < 1.4 * expected


def wrapped(name, *modules):
    products = Products(lambda module: module, name)
    return products, [products(module) for module in modules]


def test_layers_fall_back_where_8_bits_are_too_few():
    """One input stands out 1,000-fold, and the weight hardly looks at it: int8 rounds all that
    counts to zero, fp8 does not mind. Without the trial every product is exact."""
    weight, x = torch.randn(64, 96), torch.randn(100, 96)
    weight[:, 5] /= 1000
    x[:, 5] *= 1000
    even, gradient = torch.randn(100, 96), torch.randn(100, 64)
    for name, spared in [("int8", True), ("fp8", False)]:
        products, (layer, other) = wrapped(name, Plain(weight), Plain(torch.randn(64, 96)))
        assert torch.equal(layer.forward(x), layer.base.forward(x))
        with products.trying():
            assert torch.equal(layer.forward(x), layer.base.forward(x))
            other.forward(even)
            layer.backward(gradient)
            other.backward(gradient)
        assert torch.equal(layer.forward(x), layer.base.forward(x)) == spared
        assert not torch.equal(other.forward(even), other.base.forward(even))
        assert not torch.equal(layer.backward(gradient), layer.base.backward(gradient))
        assert products.words().startswith(f"{name}: {3 if spared else 4} of 4 matrix products")


def test_products_that_gain_nothing_stay_exact():
    products, (odd, fine) = wrapped("int8", Plain(torch.randn(40, 96)), Plain(torch.randn(64, 96)))
    assert isinstance(odd, Plain)
    few = torch.randn(3, 96)
    with products.trying():
        fine.forward(few)
    assert fine.errors == {}
    assert torch.equal(fine.forward(few), fine.base.forward(few))


@FORMAT
def test_a_product_of_zeros_is_near(form):
    products, (layer,) = wrapped(form.name, Plain(torch.randn(64, 96)))
    with products.trying():
        layer.forward(torch.zeros(100, 96))
    assert layer.errors == {"forward": 0.0} and products.words().startswith(f"{form.name}: 1 of 1")


def test_lengths_of_dora_are_never_rounded():
    """Nor do they count in the trial, which a continued run makes with an `up` that is not zero."""
    products, (layer,) = wrapped("int8", Plain(torch.randn(64, 96)))
    dora = Dora(96, 64, 64, 1.0, torch.Generator().manual_seed(0))  # as many rows as count
    dora.norms.copy_(layer.base.weight.norm(dim=0))
    torch.nn.init.normal_(dora.up)
    exact = dora.gain(layer.base, torch.float32)
    with products.trying():
        dora.gain(layer, torch.float32)
    assert layer.errors == {}
    layer.errors = {"backward": 0.0}
    assert torch.equal(dora.gain(layer, torch.float32), exact)


def test_what_a_device_cannot_do_is_said_before_training(monkeypatch):
    check_device("exact", torch.device("meta"))
    check_device("fp8", torch.device("cpu"))
    with pytest.raises(ValueError, match="matmul int8 needs .* 8.0 .* this is device meta"):
        check_device("int8", torch.device("meta"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    check_device("int8", torch.device("cuda"))
    with pytest.raises(ValueError, match="fp8 needs .* 8.9 .* capability 8.6. Choose exact"):
        check_device("fp8", torch.device("cuda"))


def test_a_run_in_8_bits_stays_near_the_exact_one_and_is_continued_bit_for_bit(
    run_training, make_pairs, tmp_path, monkeypatch, caplog
):
    """After 6 steps. Adam's first steps have the size of the rate whatever the gradient, so what
    was rounded shows in full where a gradient is near zero."""
    pairs = make_pairs(tmp_path / "larger", 2, (128, 128))
    exact = last_lora(run_training(name="exact", pairs=pairs))
    config = SHORT.replace(matmul="int8")
    whole = last_lora(run_training(config, "int8", pairs=pairs))
    # forward img_in, 8 of the picture's linears (24 words are too few), 4 in single blocks and the
    # last; backward all of these but the two that nothing trained comes before
    assert "int8: 26 of 26 matrix products" in caplog.text
    ours, theirs = (torch.cat([lora[k].flatten() for k in exact]) for lora in (whole, exact))
    assert 0 < (ours - theirs).norm() / theirs.norm() < 0.1
    with monkeypatch.context() as patch, pytest.raises(host.Interrupted):
        interrupt_after(patch, 3)
        run_training(config, "halted", pairs=pairs)
    assert_same(last_lora(run_training(config, "halted", pairs=pairs)), whole)
