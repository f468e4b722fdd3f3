"""Products in 8 bits stay within the bounds that follow from their scales."""

from contextlib import contextmanager

import pytest
import torch
from comfy_kitchen.backends.eager.quantization import dequantize_mxfp8, quantize_mxfp8
from kontext.trainer import host
from kontext.trainer.network import matmul8
from kontext.trainer.network.adapters import Dora
from kontext.trainer.network.formats8 import FORMATS
from kontext.trainer.network.matmul8 import EightBitLayers, EightBitLinear, check_device
from torch._subclasses.fake_tensor import FakeTensorMode

from ..short_runs import SHORT, assert_same, interrupt_after, last_lora

FORMAT = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
BY_ROW = pytest.mark.parametrize("form", [FORMATS["int8"], FORMATS["fp8"]], ids=["int8", "fp8"])
MXFP8 = FORMATS["mxfp8"]


class Plain(torch.nn.Module):
    """A frozen linear of its own weight, as `EightBitLayers` takes it."""

    input_scale = None

    def __init__(self, weight, bias=None):
        super().__init__()
        self.weight, self.bias = weight, bias
        self.out_features, self.in_features = weight.shape

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def backward(self, gradient):
        return gradient @ self.weight

    def rows_times_weight(self, rows):
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
    if form.name == "mxfp8":
        highest = matrix.abs().unflatten(1, (-1, 32)).amax(2).repeat_interleave(32, 1)
        scale = torch.exp2(torch.ceil(torch.log2(highest / 448)))
    else:
        scale = matrix.abs().amax(1, keepdim=True) / form.largest
    if form.name == "int8":
        return scale.expand_as(matrix) / 2
    return torch.maximum(matrix.abs() / 16, scale * 2**-10)


@BY_ROW
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
    ours = matmul8.in_parts(form.forward(weight), x, 64).double()
    exact = x.double() @ weight.double().T
    dx, dw = off_by(x, form), off_by(weight, form)
    bound = x.double().abs() @ dw.T + dx @ weight.double().abs().T + dx @ dw.T
    assert ((ours - exact).abs() <= bound * (1 + 1e-3)).all()
    assert (ours - exact).abs().max() > 0


@BY_ROW
def test_backward_within_its_bound(form):
    """Reference: the product in float64. What is rounded of g is g times the channels' scales."""
    gradient, weight = uneven(100, 64), uneven(64, 96)
    rounded = form.round(weight)
    ours = matmul8.in_parts(form.backward(weight), gradient, 96).double()
    exact = gradient.double() @ weight.double()
    scaled = gradient * rounded.scale.T
    values = rounded.values.double().abs()
    bound = gradient.double().abs() @ off_by(weight, form) + off_by(scaled, form) @ values
    assert ((ours - exact).abs() <= bound * (1 + 1e-3)).all()


def kitchen_rounded(matrix):
    values, scales = quantize_mxfp8(matrix.contiguous())
    return values, scales, dequantize_mxfp8(values, scales, torch.float32).double()


def test_mxfp8_is_rounded_as_comfy_kitchen_does():
    """Values, scales and their order on the card, bit for bit; padded in both directions.

    Reference for the powers: torch's own 8-bit exponents.
    """
    matrix = uneven(130, 160)
    values, scales, dense = kitchen_rounded(matrix)
    ours = MXFP8.round(matrix)
    assert torch.equal(ours.values.view(torch.uint8), values.view(torch.uint8))
    assert torch.equal(ours.scales().view(torch.uint8), scales.flatten().view(torch.uint8))
    assert torch.equal(ours.powers, ours.exponents.view(torch.float8_e8m0fnu).float())
    assert torch.equal(ours.dense().double(), dense)
    assert ((dense - matrix).abs() <= off_by(matrix, MXFP8)).all()


@pytest.mark.parametrize("exponent", [-126, -40, -8, 0, 17, 118])
def test_the_power_of_a_block_is_the_smallest_that_holds_its_largest_value(exponent):
    """Closed form: e4m3 ends at 448. One value a hair above needs the next power."""
    just = torch.tensor(448 * 2.0**exponent)
    above = torch.nextafter(just * 1.0001, just * 2)
    blocks = torch.stack([just, above, -above])[:, None].expand(3, 32)
    powers = MXFP8.round(blocks).powers.double().flatten()
    assert torch.equal(powers, torch.exp2(torch.tensor([0.0, 1, 1]).double() + exponent))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_mxfp8_products_are_those_of_comfy_kitchens_numbers(dtype):
    """Reference: its rounded matrices, the weight along the other side in backward, in float64."""
    x, gradient, weight = (uneven(*shape).to(dtype) for shape in [(70, 96), (70, 64), (64, 96)])
    for ours, left, right in [
        (MXFP8.forward(weight)(x), x, weight),
        (MXFP8.backward(weight)(gradient), gradient, weight.T),
    ]:
        exact = kitchen_rounded(left)[2] @ kitchen_rounded(right)[2].T
        assert (ours.double() - exact).norm() < 1e-6 * exact.norm()


def test_torch_takes_what_mxfp8_hands_to_a_card():
    """Its own check of shapes, dtypes and layouts, on tensors of a card that is not there."""
    with FakeTensorMode():
        weight = torch.empty(64, 160, device="cuda:0", dtype=torch.bfloat16)
        x, gradient = weight.new_empty(130, 160), weight.new_empty(130, 64)
        assert MXFP8.forward(weight)(x).shape == (130, 64)
        back = MXFP8.backward(weight)(gradient)
        assert back.shape == (130, 160) and back.dtype == torch.bfloat16


def test_what_is_not_a_number_stays_none():
    """So that a run which diverges is seen to."""
    x, weight = torch.randn(70, 96), torch.randn(64, 96)
    x[1, 2], x[3, 4] = torch.nan, torch.inf
    result = MXFP8.forward(weight)(x)
    assert not result[[1, 3]].isfinite().any()
    assert result[[0, 2]].isfinite().all()


@FORMAT
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_close_to_the_exact_one(form, dtype):
    """3.7 % for e4m3, 1.1 % for int8: what independent rounding of both sides gives in theory."""
    expected = 0.011 if form.name == "int8" else 0.037
    base = Plain(torch.randn(64, 96).to(dtype), torch.randn(64).to(dtype))
    layer, x, gradient = EightBitLinear(base, form), torch.randn(2, 50, 96), torch.randn(2, 50, 64)
    layer.errors = {"forward": 0.0, "backward": 0.0}
    for ours, exact in [
        (layer.forward(x.to(dtype)), base.forward(x.to(dtype))),
        (layer.backward(gradient.to(dtype)), base.backward(gradient.to(dtype))),
    ]:
        assert ours.dtype == dtype and ours.shape == exact.shape
        error = (ours - exact).float().norm() / exact.float().norm()
        assert 0.6 * expected < error < 1.4 * expected


def wrapped(name, *modules):
    products = EightBitLayers(lambda module: module, name)
    return products, [products(module) for module in modules]


def test_layers_fall_back_where_8_bits_are_too_few():
    """One input stands out 1,000-fold, and the weight hardly looks at it: int8 rounds all that
    counts to zero, fp8 does not mind. Without the trial every product is exact."""
    weight, x = torch.randn(64, 96), torch.randn(100, 96)
    weight[:, 5] /= 1000
    x[:, 5] *= 1000
    even, gradient = torch.randn(100, 96), torch.randn(100, 64)
    for name, spared in [("int8", True), ("fp8", False), ("mxfp8", False)]:
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
        assert products.summary().startswith(f"{name}: {3 if spared else 4} of 4 matrix products")


@pytest.mark.parametrize(("name", "side"), [("int8", 40), ("mxfp8", 48)])
def test_products_that_gain_nothing_stay_exact(name, side):
    products, (odd, fine) = wrapped(name, Plain(torch.randn(side, 96)), Plain(torch.randn(64, 96)))
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
    assert layer.errors == {"forward": 0.0} and products.summary().startswith(
        f"{form.name}: 1 of 1"
    )


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
    with pytest.raises(ValueError, match="matmul int8 needs .* 8.0 .* this is META"):
        check_device("int8", torch.device("meta"))
    card, tried = torch.device("cuda"), []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(matmul8, "multiply_once", lambda name, device: tried.append(name))
    check_device("int8", card)
    with pytest.raises(ValueError, match="fp8 needs .* 8.9 .* capability 8.6. Choose exact"):
        check_device("fp8", card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_device("fp8", card)
    with pytest.raises(ValueError, match="mxfp8 needs .* 10.0 .* capability 9.0. Choose exact"):
        check_device("mxfp8", card)
    assert tried == ["int8", "fp8"]


def test_a_product_that_this_build_of_torch_lacks_is_said_before_training(monkeypatch):
    """torch 2.10 has no fp8 product by rows for compute capability 12 (pytorch#192707)."""

    def lacking(*_, **__):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling\nmore")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (12, 0))
    monkeypatch.setattr(matmul8, "multiply_once", lacking)
    with pytest.raises(ValueError, match="fp8 .* torch .* 12.0: CUDA error: .* Choose another"):
        check_device("fp8", torch.device("cuda"))


@FORMAT
def test_the_product_that_is_tried_is_one(form):
    matmul8.multiply_once(form.name, torch.device("cpu"))


@pytest.mark.slow
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
