"""The networks: their sizes, their shapes, and that conditions act."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_helpers.denoise import label_weights
from diffusion_helpers.unet import (
    Attention,
    Classifier,
    CourseUNet,
    ResidualBlock,
    ResidualUNet,
    time_features,
)

CONDITIONAL = {
    "course": lambda: CourseUNet(D=4, time=True, classes=10),
    "residual": lambda: ResidualUNet(widths=(8, 16), classes=10),
}


@pytest.fixture(autouse=True)
def in_float64():
    """So that the smallest influence stands out from rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def awake(net):
    """The network in eval mode, no layer left at zero, where it would hide those before it."""
    for p in net.parameters():
        p.data += 0.3 * torch.randn_like(p) * (1 if p.ndim < 2 else p[0].numel() ** -0.5)
    return net.eval()


def same(a, b):
    return torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.fixture(params=CONDITIONAL)
def net(request):
    return awake(CONDITIONAL[request.param]())


@pytest.fixture
def x():
    return torch.randn(3, 1, 28, 28)


@pytest.mark.parametrize(
    "config, count",
    [
        ({"D": 128}, 7_891_073),
        ({"D": 64, "time": True}, 1_996_417),
        ({"D": 64, "time": True, "classes": 10}, 2_019_201),
    ],
)
def test_the_course_network_has_the_published_number_of_parameters(config, count):
    with torch.device("meta"):
        assert parameters(CourseUNet(**config)) == count


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("D", [1, 4])
def test_the_course_network_keeps_the_shape(D, channels):
    x = torch.randn(2, channels, 28, 28)
    assert CourseUNet(D, channels=channels)(x).shape == x.shape
    assert CourseUNet(D, time=True, channels=channels)(x, torch.rand(2)).shape == x.shape


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("widths", [(8,), (8, 16), (8, 16, 24)])
@pytest.mark.parametrize("size", [(3, 64, 64), (1, 32, 16)])
def test_the_residual_network_keeps_the_shape_and_starts_at_exactly_zero(widths, patch, size):
    net = ResidualUNet(widths=widths, patch=patch, channels=size[0], attention=(len(widths) - 1,))
    out = net(torch.randn(2, *size), torch.rand(2))
    assert torch.equal(out, torch.zeros(2, *size))
    assert awake(net)(torch.randn(2, *size), torch.rand(2)).abs().min() > 0


@pytest.mark.parametrize("patch, attention", [(1, (2, 3)), (2, (1, 2))])
def test_four_levels_of_64x64_colours_attend_at_16_and_8_pixels(patch, attention):
    net = awake(ResidualUNet((8, 8, 16, 16), 1, attention, patch, classes=3, channels=3, dropout=0.1))
    sides = []
    for module in net.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda module, given, out: sides.append(given[0].shape[2]))
    x = torch.randn(2, 3, 64, 64)
    assert net(x, torch.rand(2), torch.tensor([0, 3])).shape == x.shape
    assert set(sides) == {16, 8}
    y = torch.zeros(2).long()
    t = torch.rand(2)
    assert same(net(x, t, y), net(x, t, y)) and not same(net.train()(x, t, y), net(x, t, y))  # dropout acts in training


@pytest.mark.parametrize("width, heads", [(8, 1), (32, 1), (64, 2), (96, 3), (104, 2), (128, 4)])
def test_a_head_has_about_32_channels_and_every_width_has_whole_heads(width, heads):
    net = ResidualUNet(widths=(8, width))
    assert {m.heads for m in net.modules() if isinstance(m, Attention)} == {heads}


@pytest.mark.parametrize("blocks, attention", [(1, ()), (2, (0, 1)), (3, (1,))])
def test_the_residual_network_takes_any_number_of_blocks_and_attending_levels(blocks, attention):
    net = awake(ResidualUNet(widths=(8, 16), blocks=blocks, attention=attention))
    assert net(torch.randn(2, 1, 28, 28), torch.rand(2)).shape == (2, 1, 28, 28)
    assert sum(isinstance(m, Attention) for m in net.modules()) == len(attention) * (2 * blocks + 1) + (1 in attention)


def test_every_parameter_is_reached_by_the_gradient(net, x):
    net(x, torch.rand(3), torch.arange(3)).square().sum().backward()
    unused = [name for name, p in net.named_parameters() if p.grad is None]
    assert unused == []


def test_time_and_label_act(net, x):
    t, y = torch.full((3,), 0.3), torch.zeros(3).long()
    out = net(x, t, y)
    assert not same(net(x, t + 0.5, y), out)
    assert not same(net(x, t, y + 1), out)


def test_each_image_has_its_own_condition_and_no_other_image_matters(net, x):
    t, y = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0, 7, 10])
    loop = [net(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)]
    assert same(net(x, t, y), torch.cat(loop))


def test_the_null_label_is_all_zeros_and_not_the_digit_0(net, x):
    t = torch.rand(3)
    null = net(x, t, torch.full((3,), 10))
    assert torch.equal(null, net(x, t, torch.zeros(3, 10)))
    assert not same(null, net(x, t, torch.zeros(3).long()))


def test_one_hot_weights_equal_the_label_and_mixtures_differ_from_both(net, x):
    t, y = torch.rand(3), torch.tensor([0, 4, 9])
    out = net(x, t, y)
    assert torch.equal(out, net(x, t, F.one_hot(y, 10).float()))
    assert not same(out, net(x, t, (F.one_hot(y, 10) + F.one_hot(y * 0 + 5, 10)) / 2.0))


def test_label_weights_are_one_hot_with_a_row_of_zeros_for_the_null_label():
    expected = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert torch.equal(label_weights(torch.arange(4), 3), expected.float())
    weights = torch.rand(2, 3)
    assert label_weights(weights, 3) is weights


def test_the_course_conditions_act_as_c_times_h_plus_t(x):
    """With c = 1 and t = 0 they change nothing; with c = 0 the bottleneck map no longer matters."""
    plain, conditional = awake(CourseUNet(D=4)), awake(CourseUNet(D=4, time=True, classes=10))
    conditional.load_state_dict(plain.state_dict(), strict=False)

    def force(c, t):
        for block, value in [(conditional.c1, c), (conditional.c2, c), (conditional.t1, t), (conditional.t2, t)]:
            nn.init.zeros_(block[2].weight)
            nn.init.constant_(block[2].bias, value)

    t, y = torch.rand(3), torch.arange(3)
    force(c=1.0, t=0.0)
    assert torch.equal(conditional(x, t, y), plain(x))
    force(c=0.0, t=0.5)
    out = conditional(x, t, y)
    nn.init.normal_(conditional.unflatten[0].weight)
    nn.init.normal_(conditional.up1[0].weight)
    assert torch.equal(conditional(x, t, y), out)


def test_a_fresh_residual_block_and_a_fresh_attention_are_the_identity():
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(ResidualBlock(16, 16, 8, dropout=0.5)(x, torch.randn(2, 8)), x)
    assert torch.equal(Attention(16, 2)(x), x)


def test_attention_treats_pixels_as_a_set():
    x, attend, order = torch.randn(2, 16, 1, 9), awake(Attention(16, 2)), torch.randperm(9)
    assert same(attend(x)[..., order], attend(x[..., order]))
    assert same(attend(x.reshape(2, 16, 3, 3)).reshape(2, 16, 1, 9), attend(x))


def test_attention_equals_the_reference_layer_of_torch():
    x, attend = torch.randn(2, 16, 3, 3), awake(Attention(16, 4))
    reference = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    reference.in_proj_weight.data = attend.qkv.weight.data[:, :, 0, 0]
    reference.in_proj_bias.data = attend.qkv.bias.data
    reference.out_proj.weight.data = attend.out.weight.data[:, :, 0, 0]
    reference.out_proj.bias.data = attend.out.bias.data
    tokens = attend.norm(x).flatten(2).transpose(1, 2)
    expected = reference(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)
    assert same(attend(x), x + expected)


def test_time_features_are_points_on_circles_and_tell_all_thousand_times_apart():
    features = time_features(torch.arange(1001) / 1000, 64)
    assert same(features[:, :32] ** 2 + features[:, 32:] ** 2, torch.ones(1001, 32))
    assert float(torch.pdist(features).min()) > 0.1


@pytest.mark.parametrize("channels, size", [(1, 28), (3, 64), (1, 32), (3, 50)])
def test_the_classifier_takes_any_channels_and_size(channels, size):
    net, x = awake(Classifier(classes=3, width=2, channels=channels, size=size)), torch.randn(2, channels, size, size)
    assert net.features(x).shape == (2, 128) and net(x).shape == (2, 3)


def test_the_classifier_reads_its_logits_off_128_features(x):
    net = awake(Classifier(width=4))
    assert net(x).shape == (3, 10) and net.features(x).shape == (3, 128)
    assert torch.equal(net.head(net.features(x)), net(x))


X, T, Y = torch.zeros(2, 1, 28, 28).double(), torch.rand(2).double(), torch.zeros(2).long()


@pytest.mark.parametrize(
    "given, named",
    [
        ((torch.zeros(2, 3, 28, 28), T, Y), r"\(2, 3, 28, 28\)"),
        ((torch.zeros(1, 28, 28), T, Y), r"\(1, 28, 28\)"),
        ((torch.zeros(2, 1, 27, 28), T, Y), "27"),
        ((X, None, Y), "times were not given"),
        ((X, torch.rand(3), Y), r"times of shape \(3,\)"),
        ((X, torch.tensor(0.5), Y), r"times of shape \(\)"),
        ((X, T, None), "labels were not given to a network of 10 classes"),
        ((X, T, torch.zeros(3).long()), "3 labels for 2 images"),
        ((X, T, torch.tensor([0, 11])), "labels from 0 to 11"),
        ((X, T, torch.tensor([-1, 0])), "labels from -1 to 0"),
        ((X, T, torch.zeros(2, 10).long()), r"labels of shape \(2, 10\)"),
        ((X, T, torch.zeros(2, 9)), r"label weights of shape \(2, 9\)"),
        ((X, T, torch.zeros(2)), r"label weights of shape \(2,\)"),
    ],
)
def test_bad_input_is_named(net, given, named):
    with pytest.raises(ValueError, match=named):
        net(*given)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: CourseUNet(2)(torch.zeros(2, 1, 56, 56)), r"\(2, 1, 56, 56\): expected \(B, 1, 28, 28\)"),
        (lambda: CourseUNet(2)(X, T), "times were given"),
        (lambda: CourseUNet(2, time=True)(X, T, Y), "labels were given to a network of 0 classes"),
        (lambda: ResidualUNet((8, 16, 24))(X, T), "28x28 pixels: expected multiples of 8"),
        (lambda: Attention(104, 3), "104 channels for 3 attention heads"),
        (lambda: ResidualUNet((8, 16), attention=(1, 2)), r"attention = \(1, 2\): expected some of the levels 0 to 1"),
        (lambda: ResidualUNet((12,)), "12"),
        (lambda: Classifier(width=2)(torch.zeros(2, 1, 32, 32)), r"\(2, 1, 32, 32\)"),
        (lambda: Classifier(channels=3, size=64)(torch.zeros(2, 3, 28, 28)), r"expected \(B, 3, 64, 64\)"),
        (lambda: Classifier(width=2).features(torch.zeros(2, 3, 28, 28)), r"\(2, 3, 28, 28\)"),
    ],
)
def test_bad_input_to_one_network_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
