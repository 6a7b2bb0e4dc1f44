"""Small networks of many kinds, for tests that must hold for all: name -> (network, rows of inputs), float64."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

ROWS = 5
CLASSES = 3


class Net(nn.Module):
    """Modules by keyword, and a forward pass as a function of the network and its inputs."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


class Cube(torch.autograd.Function):
    """A function of the user's own: no rule for vmap, so that it must be done one by one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class Lifted(torch.autograd.Function):
    """The same in the new style."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


def raw(*shape):
    return nn.Parameter(torch.randn(shape))


def lin(i, o=CLASSES, **more):
    return nn.Linear(i, o, **more)


def frozen(module, *names):
    for name, p in module.named_parameters():
        if name in names:
            p.requires_grad_(False)
    return module


def settled(norm):
    """A batch normalisation that has seen something."""
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        if norm.weight is not None:
            norm.weight.normal_()
            norm.bias.normal_()
    return norm


def lively(norm):
    with torch.no_grad():
        for p in norm.parameters():
            p.normal_()
    return norm


def numbers(*shape):
    return lambda: torch.randn(ROWS, *shape)


def tokens(n, *shape):
    return lambda: torch.randint(0, n, (ROWS, *shape))


ACTIVATIONS = [
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Softplus, nn.Mish,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.ReLU6, nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.LogSigmoid,
    nn.Identity,
]  # fmt: skip


def cells(cell, state):
    def run(m, x):
        h = x.new_zeros(len(x), 4)
        h = (h, h) if state == 2 else h
        for t in range(x.shape[1]):
            h = m.cell(x[:, t], h)
        return m.out(h[0] if state == 2 else h)

    return Net(run, cell=cell(3, 4), out=lin(4))


def recurrent(kind, **more):
    width = 4 * (2 if more.get("bidirectional") else 1)
    return Net(lambda m, x: m.out(m.body(x)[0][:, -1]), body=kind(3, 4, batch_first=True, **more), out=lin(width))


def attention(run, **more):
    return Net(run, mix=nn.MultiheadAttention(4, 2, batch_first=True, **more), out=lin(4))


def to_itself(mix, x):
    return mix(x, x, x)[0]


def causal(x):
    return torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)


def image(*parts, width):
    return nn.Sequential(*parts, nn.Flatten(), lin(width))


def gpt(m, x):
    h = m.words(x) + m.places(torch.arange(x.shape[1]))
    h = h + m.mix(m.first(h), m.first(h), m.first(h), attn_mask=causal(x), need_weights=False)[0]
    h = h + m.down(F.gelu(m.up(m.second(h))))
    return m.out(h).mean(1)


def residual(m, x):
    h = torch.relu_(m.norm(m.a(x)))
    h = h + torch.relu(m.group(m.b(h)))
    f = m.c(h)
    f += h
    h = f
    return m.out(h.mean((2, 3)))


def branches(m, x):
    """Each row alone decides by its own numbers, without a Python branch."""
    return torch.where(x[:, :1] > 0, m.a(x), m.b(x))


def twice_lengths(m, x):
    """One layer at 4 places, then at 2."""
    h = torch.tanh(m.l(x))
    return m.o(torch.tanh(m.l(h[:, ::2])).sum(1) + h.sum(1))


def wide_and_deep(m, x):
    return m.o(torch.tanh(m.a(x))) + m.skip(x)


def marked(*shape):
    """The first number of the first three rows is negative, of the others positive."""

    def rows():
        x = torch.randn(ROWS, *shape)
        first = x.flatten(1)[:, 0]
        first[:3], first[3:] = -first[:3].abs() - 0.1, first[3:].abs() + 0.1
        return x

    return rows


def ascending():
    """The first three rows are in order already, the others not."""
    x = torch.randn(ROWS, 3, 4)
    x[:, 0, 0] = torch.tensor([1.0, 2.0, 3.0, 0.5, -1.0])
    return x


def sorted_inside(m, x):
    order = x[:, 0, 0].argsort()
    h = torch.tanh(m.a(x[order].reshape(-1, 4))).reshape(len(x), -1)
    return m.b(h)[order.argsort()]


def dead_at_first(m, x):
    """Sequence first; rows with a negative mark have no gradients but at the end."""
    return m.o((torch.tanh(m.a(x.transpose(0, 1))) * torch.relu(x[:, 0, :1])[None]).sum(0))


def dead_reshaped(m, x):
    h = m.a(x.transpose(0, 1).reshape(-1, 4)).reshape(3, len(x), -1)
    return m.o((torch.tanh(h) * torch.relu(x[:, 0, :1])[None]).sum(0))


def in_place_at_the_end(m, x):
    out = m.a(x)
    out *= 2
    out[:, 0] = out[:, 1] * 3
    return out


def in_place_through_a_view(m, x):
    h = m.a(x)
    h.view(-1).mul_(2)
    return m.b(torch.tanh(h))


def masked(m, x):
    """Some rows go through one map, the others through another: how many, the numbers decide."""
    out, yes = x.new_zeros(len(x), 3), x[:, 0] > 0
    out[yes] = m.a(x[yes])
    out[~yes] = m.b(x[~yes])
    return out


def late(m, x):
    h = m.a(x)
    return h + F.linear(x, Cube.apply(m.a.weight)) if bool((x[:, 0] > 0).any()) else h


def everything():
    """name -> (network, function that makes rows)."""
    zoo = {
        f"mlp {kind.__name__}": (lambda kind=kind: nn.Sequential(lin(4, 5), kind(), lin(5)), numbers(4))
        for kind in ACTIVATIONS
    }
    zoo |= {
        # affine maps
        "linear": (lambda: lin(4), numbers(4)),
        "no bias": (lambda: nn.Sequential(lin(4, 5, bias=False), nn.Tanh(), lin(5, bias=False)), numbers(4)),
        "in place": (lambda: nn.Sequential(lin(4, 5), nn.ReLU(inplace=True), lin(5)), numbers(4)),
        "deep, flattened": (
            lambda: nn.Sequential(nn.Flatten(), lin(6, 5), nn.GELU(), lin(5, 5), nn.SiLU(), lin(5)),
            numbers(2, 3),
        ),
        "gelu tanh": (lambda: nn.Sequential(lin(4, 5), nn.GELU("tanh"), lin(5)), numbers(4)),
        "prelu": (lambda: nn.Sequential(lin(4, 5), nn.PReLU(5), lin(5), nn.PReLU()), numbers(4)),
        "bilinear": (lambda: Net(lambda m, x: m.l(x, x), l=nn.Bilinear(4, 4, 3)), numbers(4)),
        "dropout": (lambda: nn.Sequential(lin(4, 5), nn.Dropout(0.5), nn.Tanh(), lin(5)), numbers(4)),
        "softmax inside": (lambda: nn.Sequential(lin(4, 5), nn.Softmax(1), lin(5)), numbers(4)),
        "glu": (lambda: nn.Sequential(lin(4, 6), nn.GLU(), lin(3)), numbers(4)),
        "skip": (lambda: Net(wide_and_deep, a=lin(4, 5), o=lin(5), skip=lin(4, bias=False)), numbers(4)),
        "branches by row": (lambda: Net(branches, a=lin(4), b=lin(4)), numbers(4)),
        "mixture of experts": (
            lambda: Net(
                lambda m, x: (torch.softmax(m.g(x), 1)[:, None] * torch.stack([m.a(x), m.b(x)], 2)).sum(2),
                g=lin(4, 2),
                a=lin(4),
                b=lin(4),
            ),
            numbers(4),
        ),
        # shared weights
        "twice": (
            lambda: Net(lambda m, x: m.o(torch.tanh(m.l(torch.tanh(m.l(x))))), l=lin(4, 4), o=lin(4)),
            numbers(4),
        ),
        "three times": (
            lambda: Net(lambda m, x: m.o(torch.tanh(m.l(torch.tanh(m.l(torch.tanh(m.l(x))))))), l=lin(4, 4), o=lin(4)),
            numbers(4),
        ),
        "twice, other bias": (
            lambda: Net(
                lambda m, x: m.o(F.linear(torch.tanh(F.linear(x, m.w, m.a)), m.w, m.b)),
                w=raw(4, 4),
                a=raw(4),
                b=raw(4),
                o=lin(4),
            ),
            numbers(4),
        ),
        "one bias, two weights": (
            lambda: Net(
                lambda m, x: F.linear(torch.tanh(F.linear(x, m.v, m.b)), m.w, m.b), v=raw(3, 4), w=raw(3, 3), b=raw(3)
            ),
            numbers(4),
        ),
        "bias first": (
            lambda: Net(lambda m, x: m.o(torch.tanh(F.linear(x, m.w, m.b))), b=raw(4), w=raw(4, 4), o=lin(4)),
            numbers(4),
        ),
        "siamese": (
            lambda: Net(lambda m, x: m.o(torch.tanh(m.l(x[:, 0])) * torch.tanh(m.l(x[:, 1]))), l=lin(4, 5), o=lin(5)),
            numbers(2, 4),
        ),
        "two lengths": (lambda: Net(twice_lengths, l=lin(4, 4), o=lin(4)), numbers(4, 4)),
        "per place": (lambda: Net(lambda m, x: m.o(torch.tanh(m.l(x))).mean(1), l=lin(4, 5), o=lin(5)), numbers(3, 4)),
        "per place, reshaped": (
            lambda: Net(lambda m, x: m.o(torch.tanh(m.l(x.reshape(-1, 4))).reshape(len(x), -1)), l=lin(4, 2), o=lin(6)),
            numbers(3, 4),
        ),
        "per place, turned": (
            lambda: Net(lambda m, x: m.o(torch.tanh(m.l(x.transpose(0, 1)))).mean(0), l=lin(4, 5), o=lin(5)),
            numbers(3, 4),
        ),
        "per place, turned and reshaped": (
            lambda: Net(
                lambda m, x: m.o(torch.tanh(m.l(x.transpose(0, 1).reshape(-1, 4)))).reshape(3, len(x), 3).sum(0),
                l=lin(4, 5),
                o=lin(5),
            ),
            numbers(3, 4),
        ),
        "last axis turned": (
            lambda: Net(lambda m, x: m.o(torch.tanh(m.l(x.mT)).flatten(1)), l=lin(3, 2), o=lin(8)),
            numbers(3, 4),
        ),
        "mixer": (
            lambda: Net(
                lambda m, x: m.o((x + m.b(torch.relu(m.a(x.mT))).mT).mean(1)), a=lin(3, 5), b=lin(5, 3), o=lin(4)
            ),
            numbers(3, 4),
        ),
        "norm, turned and reshaped": (
            lambda: Net(
                lambda m, x: m.o(m.n(x.transpose(0, 1).reshape(-1, 4)).reshape(3, len(x), 4).sum(0)),
                n=lively(nn.LayerNorm(4)),
                o=lin(4),
            ),
            numbers(3, 4),
        ),
        "norm twice": (
            lambda: Net(lambda m, x: m.o(m.n(torch.tanh(m.n(x)))), n=lively(nn.LayerNorm(4)), o=lin(4)),
            numbers(4),
        ),
        "conv and norm of turned places": (
            lambda: Net(
                lambda m, x: m.o(
                    torch
                    .relu(m.n(m.c(x.transpose(0, 1).flatten(0, 1))))
                    .unflatten(0, (-1, len(x)))
                    .transpose(0, 1)
                    .flatten(1)
                ),
                c=nn.Conv1d(2, 4, 2),
                n=settled(nn.BatchNorm1d(4)),
                o=lin(24),
            ),
            numbers(3, 2, 3),
        ),
        "in chunks": (lambda: Net(lambda m, x: torch.cat([m.a(c) for c in x.split(2)]), a=lin(4)), numbers(4)),
        "row by row": (
            lambda: Net(
                lambda m, x: torch.cat([m.a(r[None]) if r[0] > 0 else m.b(r[None]) for r in x]), a=lin(4), b=lin(4)
            ),
            numbers(4),
        ),
        "row by row, no batch": (
            lambda: Net(lambda m, x: torch.stack([m.a(r) if r[0] > 0 else m.b(r) for r in x]), a=lin(4), b=lin(4)),
            numbers(4),
        ),
        "sorted inside": (lambda: Net(sorted_inside, a=lin(4, 2), b=lin(6)), ascending),
        "rolled": (lambda: Net(lambda m, x: m.a(x.roll(1, 0)).roll(-1, 0), a=lin(4)), numbers(4)),
        "vmap inside": (
            lambda: Net(lambda m, x: m.o(torch.vmap(lambda r: torch.tanh(m.a(r)))(x)), a=lin(4, 5), o=lin(5)),
            numbers(4),
        ),
        "vmap over places": (
            lambda: Net(
                lambda m, x: m.o(torch.tanh(torch.vmap(m.a, in_dims=1, out_dims=1)(x)).mean(1)), a=lin(4, 5), o=lin(5)
            ),
            numbers(3, 4),
        ),
        "checkpointed": (
            lambda: Net(
                lambda m, x: m.b(checkpoint(lambda h: torch.tanh(m.a(h)), x, use_reentrant=False)),
                a=lin(4, 5),
                b=lin(5),
            ),
            numbers(4),
        ),
        "checkpointed, reentrant": (
            lambda: Net(
                lambda m, x: m.b(
                    checkpoint(lambda h: torch.tanh(m.a(h)), x.clone().requires_grad_(), use_reentrant=True)
                ),
                a=lin(4, 5),
                b=lin(5),
            ),
            numbers(4),
        ),
        "in place at the end": (lambda: Net(in_place_at_the_end, a=lin(4)), numbers(4)),
        "in place through a view": (lambda: Net(in_place_through_a_view, a=lin(4, 5), b=lin(5)), numbers(4)),
        "identical rows": (
            lambda: Net(
                lambda m, x: m.o(torch.tanh(m.l(x.transpose(0, 1).reshape(-1, 4)))).reshape(3, len(x), 3).sum(0),
                l=lin(4, 5),
                o=lin(5),
            ),
            lambda: torch.cat([torch.randn(1, 1, 4).expand(3, 3, 4), torch.randn(2, 3, 4)]),
        ),
        "dead at first, three places": (lambda: Net(dead_at_first, a=lin(4, 5), o=lin(5)), marked(3, 4)),
        "dead at first, reshaped": (lambda: Net(dead_reshaped, a=lin(4, 5), o=lin(5)), marked(3, 4)),
        "hidden use, dead at first": (
            lambda: Net(
                lambda m, x: F.linear(x, m.w) + torch.relu(x[:, :1]) * F.linear(x, Cube.apply(m.w)), w=raw(3, 4)
            ),
            marked(4),
        ),
        # functional uses of parameters
        "raw": (lambda: Net(lambda m, x: torch.tanh(x @ m.a) * m.b + m.c, a=raw(4, 3), b=raw(3), c=raw()), numbers(4)),
        "transposed": (lambda: Net(lambda m, x: F.linear(x, m.a.T), a=raw(4, 3)), numbers(4)),
        "a part of one": (lambda: Net(lambda m, x: F.linear(x, m.a[0], m.a[1, :, 0]), a=raw(2, 3, 4)), numbers(4)),
        "viewed": (lambda: Net(lambda m, x: F.linear(x, m.a.view(3, 4)), a=raw(12)), numbers(4)),
        "scaled": (lambda: Net(lambda m, x: F.linear(x, m.a * 2, m.b), a=raw(3, 4), b=raw(3)), numbers(4)),
        "squared and plain": (
            lambda: Net(lambda m, x: F.linear(torch.tanh(F.linear(x, m.a)), m.a[:, :3] ** 2), a=raw(3, 4)),
            numbers(4),
        ),
        "addmm": (lambda: Net(lambda m, x: torch.addmm(m.b, x, m.a), a=raw(4, 3), b=raw(3)), numbers(4)),
        "einsum": (
            lambda: Net(lambda m, x: torch.einsum("bi,ij,j->bj", x, m.a, m.b), a=raw(4, 3), b=raw(3)),
            numbers(4),
        ),
        "matmul method": (lambda: Net(lambda m, x: x.matmul(m.a.t()).add(m.b), a=raw(3, 4), b=raw(3)), numbers(4)),
        "parameter as input": (lambda: Net(lambda m, x: x[:, :3] * m.l(m.code), l=lin(4), code=raw(4)), numbers(4)),
        "parameter as inputs": (
            lambda: Net(lambda m, x: (x[:, :3, None] * m.l(m.code).mT).sum(2), l=lin(4), code=raw(3, 4)),
            numbers(4),
        ),
        "hypernetwork": (
            lambda: Net(lambda m, x: torch.bmm(m.h(x).reshape(-1, 3, 4), x[..., None])[..., 0], h=lin(4, 12)),
            numbers(4),
        ),
        "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(lin(4, 5)), nn.Tanh(), lin(5)), numbers(4)),
        "orthogonal": (lambda: nn.Sequential(parametrizations.orthogonal(lin(4, 4)), nn.Tanh(), lin(4)), numbers(4)),
        "custom function": (lambda: Net(lambda m, x: m.b(Cube.apply(m.a(x))), a=lin(4, 5), b=lin(5)), numbers(4)),
        "custom function of a weight": (
            lambda: Net(lambda m, x: F.linear(x, Cube.apply(m.a)), a=raw(3, 4)),
            numbers(4),
        ),
        "custom function of a weight used twice": (
            lambda: Net(lambda m, x: F.linear(x, m.a) + F.linear(x, Cube.apply(m.a)), a=raw(3, 4)),
            numbers(4),
        ),
        "lifted function of a weight used twice": (
            lambda: Net(lambda m, x: F.linear(x, m.a) + F.linear(x, Lifted.apply(m.a)), a=raw(3, 4)),
            numbers(4),
        ),
        "unused": (lambda: Net(lambda m, x: m.a(x), a=lin(4), idle=lin(4)), numbers(4)),
        "called, not used": (
            lambda: Net(lambda m, x: m.a(x) + 0 * m.idle(x).detach(), a=lin(4), idle=lin(4)),
            numbers(4),
        ),
        "frozen weight": (lambda: frozen(nn.Sequential(lin(4, 5), nn.Tanh(), lin(5)), "0.weight"), numbers(4)),
        "frozen bias": (lambda: frozen(nn.Sequential(lin(4, 5), nn.Tanh(), lin(5)), "0.bias"), numbers(4)),
        "frozen body": (lambda: frozen(nn.Sequential(lin(4, 5), nn.Tanh(), lin(5)), "0.bias", "0.weight"), numbers(4)),
        # normalisations
        "layer norm": (lambda: nn.Sequential(lin(4, 5), lively(nn.LayerNorm(5)), nn.GELU(), lin(5)), numbers(4)),
        "layer norm, two axes": (lambda: image(lively(nn.LayerNorm((3, 4))), width=12), numbers(3, 4)),
        "layer norm by place": (
            lambda: Net(lambda m, x: m.o(m.n(x).transpose(0, 1)).mean(0), n=lively(nn.LayerNorm(4)), o=lin(4)),
            numbers(3, 4),
        ),
        "layer norm, no bias": (
            lambda: nn.Sequential(lin(4, 5), lively(nn.LayerNorm(5, bias=False)), lin(5)),
            numbers(4),
        ),
        "rms norm": (lambda: nn.Sequential(lin(4, 5), lively(nn.RMSNorm(5)), lin(5)), numbers(4)),
        "batch norm": (lambda: nn.Sequential(lin(4, 5), settled(nn.BatchNorm1d(5)), nn.ReLU(), lin(5)), numbers(4)),
        "batch norm, no gain": (
            lambda: nn.Sequential(lin(4, 5), settled(nn.BatchNorm1d(5, affine=False)), lin(5)),
            numbers(4),
        ),
        "batch norm 1d places": (
            lambda: image(nn.Conv1d(3, 4, 3), settled(nn.BatchNorm1d(4)), nn.ReLU(), width=16),
            numbers(3, 6),
        ),
        "batch norm 2d": (
            lambda: image(nn.Conv2d(2, 4, 3), settled(nn.BatchNorm2d(4)), nn.ReLU(), width=16),
            numbers(2, 4, 4),
        ),
        "group norm": (
            lambda: image(nn.Conv2d(2, 4, 3), lively(nn.GroupNorm(2, 4)), nn.ReLU(), width=16),
            numbers(2, 4, 4),
        ),
        "instance norm": (
            lambda: image(nn.Conv2d(2, 4, 3), lively(nn.InstanceNorm2d(4, affine=True)), nn.ReLU(), width=16),
            numbers(2, 4, 4),
        ),
        "instance norm, plain": (
            lambda: image(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), width=16),
            numbers(2, 4, 4),
        ),
        # convolutions
        "conv1d same": (lambda: image(nn.Conv1d(3, 4, 3, padding="same"), nn.ReLU(), width=24), numbers(3, 6)),
        "conv1d same, even": (lambda: image(nn.Conv1d(3, 4, 4, padding="same"), nn.ReLU(), width=24), numbers(3, 6)),
        "conv1d valid": (lambda: image(nn.Conv1d(3, 4, 3, padding="valid"), nn.ReLU(), width=16), numbers(3, 6)),
        "conv2d": (lambda: image(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Tanh(), width=27), numbers(2, 5, 5)),
        "conv2d oblong": (
            lambda: image(nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(0, 1), dilation=(1, 2)), nn.Tanh(), width=27),
            numbers(2, 5, 6),
        ),
        "conv2d dilated": (
            lambda: image(nn.Conv2d(2, 3, 3, dilation=2, padding=2, bias=False), nn.Tanh(), width=48),
            numbers(2, 4, 4),
        ),
        "conv2d groups": (lambda: image(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), width=24), numbers(4, 4, 4)),
        "conv2d depthwise": (
            lambda: image(nn.Conv2d(4, 4, 3, groups=4), nn.Tanh(), nn.Conv2d(4, 2, 1), width=8),
            numbers(4, 4, 4),
        ),
        "conv2d one place": (lambda: image(nn.Conv2d(2, 5, 3), nn.Tanh(), width=5), numbers(2, 3, 3)),
        "conv2d groups, one place": (lambda: image(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), width=6), numbers(4, 3, 3)),
        **{
            f"conv2d {mode}": (
                lambda mode=mode: image(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode), nn.Tanh(), width=48),
                numbers(2, 4, 4),
            )
            for mode in ("reflect", "replicate", "circular")
        },
        "conv3d": (lambda: image(nn.Conv3d(2, 3, 2), nn.ReLU(), width=24), numbers(2, 3, 3, 3)),
        "conv shared": (
            lambda: Net(
                lambda m, x: m.o(torch.tanh(m.c(torch.tanh(m.c(x)))).flatten(1)),
                c=nn.Conv2d(2, 2, 3, padding=1),
                o=lin(32),
            ),
            numbers(2, 4, 4),
        ),
        "conv shared, two strides": (
            lambda: Net(
                lambda m, x: m.o(
                    torch.cat([F.conv2d(x, m.w, m.b).flatten(1), F.conv2d(x, m.w, m.b, stride=2).flatten(1)], 1)
                ),
                w=raw(3, 2, 2, 2),
                b=raw(3),
                o=lin(39),
            ),
            numbers(2, 4, 4),
        ),
        "conv of places as data": (
            lambda: Net(lambda m, x: m.o(m.c(x.flatten(0, 1)).reshape(len(x), -1)), c=nn.Conv1d(2, 2, 2), o=lin(12)),
            numbers(3, 2, 3),
        ),
        "conv transposed": (lambda: image(nn.ConvTranspose2d(2, 3, 2), nn.ReLU(), width=48), numbers(2, 3, 3)),
        "pooling": (lambda: image(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.ReLU(), width=3), numbers(2, 5, 5)),
        "residual": (
            lambda: Net(
                residual,
                a=nn.Conv2d(3, 4, 3, padding=1, stride=2),
                norm=settled(nn.BatchNorm2d(4)),
                b=nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
                group=lively(nn.GroupNorm(2, 4)),
                c=nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
                out=lin(4),
            ),
            numbers(3, 6, 6),
        ),
        "patches": (
            lambda: Net(
                lambda m, x: m.o(torch.relu(m.c(x).flatten(2).mT)).mean(1), c=nn.Conv2d(3, 4, 2, stride=2), o=lin(4)
            ),
            numbers(3, 4, 4),
        ),
        # tables
        "embedding": (lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), lin(12)), tokens(7, 3)),
        "embedding, repeated": (
            lambda: Net(lambda m, x: m.o(m.e(x).sum(1)), e=nn.Embedding(3, 4), o=lin(4)),
            tokens(3, 6),
        ),
        "embedding, padded": (
            lambda: Net(lambda m, x: m.o(m.e(x).sum(1)), e=nn.Embedding(4, 4, padding_idx=1), o=lin(4)),
            tokens(4, 6),
        ),
        "embedding, padded last": (
            lambda: Net(lambda m, x: m.o(m.e(x).sum(1)), e=nn.Embedding(4, 4, padding_idx=-1), o=lin(4)),
            tokens(4, 6),
        ),
        "embedding, sparse": (
            lambda: Net(lambda m, x: m.o(m.e(x).sum(1)), e=nn.Embedding(4, 4, sparse=True), o=lin(4)),
            tokens(4, 6),
        ),
        "embedding, by frequency": (
            lambda: Net(lambda m, x: m.o(m.e(x).sum(1)), e=nn.Embedding(4, 4, scale_grad_by_freq=True), o=lin(4)),
            tokens(4, 6),
        ),
        "embedding, one a row": (lambda: nn.Sequential(nn.Embedding(7, 4), lin(4)), tokens(7)),
        "embedding bag": (lambda: nn.Sequential(nn.EmbeddingBag(7, 4), lin(4)), tokens(7, 3)),
        "embedding, turned": (
            lambda: Net(lambda m, x: m.o(m.e(x.T).sum(0)), e=nn.Embedding(5, 4), o=lin(4)),
            tokens(5, 6),
        ),
        "two tables": (
            lambda: Net(
                lambda m, x: m.o(torch.tanh(m.a(x[:, 0]) + m.b(x[:, 1]))),
                a=nn.Embedding(4, 4),
                b=nn.Embedding(4, 4),
                o=lin(4),
            ),
            tokens(4, 2),
        ),
        "one table twice": (
            lambda: Net(
                lambda m, x: m.o(torch.tanh(m.a(x[:, 0]) * m.a(x[:, 1:]).sum(1))), a=nn.Embedding(4, 4), o=lin(4)
            ),
            tokens(4, 3),
        ),
        "tied by linear": (
            lambda: Net(
                lambda m, x: F.linear(torch.tanh(m.h(m.e(x))).sum(1), m.e.weight), e=nn.Embedding(3, 4), h=lin(4, 4)
            ),
            tokens(3, 5),
        ),
        "tied by matmul": (
            lambda: Net(
                lambda m, x: torch.tanh(m.h(m.e(x))).sum(1) @ m.e.weight.T,
                e=nn.Embedding(3, 4, padding_idx=0),
                h=lin(4, 4),
            ),
            tokens(3, 5),
        ),
        # sequences
        "attention": (lambda: attention(lambda m, x: m.out(m.mix(x, x, x)[0].mean(1))), numbers(5, 4)),
        "attention, three places": (lambda: attention(lambda m, x: m.out(m.mix(x, x, x)[0].mean(1))), numbers(3, 4)),
        "attention, no weights": (
            lambda: attention(lambda m, x: m.out(m.mix(x, x, x, need_weights=False)[0].mean(1))),
            numbers(4, 4),
        ),
        "attention, no bias": (
            lambda: attention(lambda m, x: m.out(m.mix(x, x, x)[0].mean(1)), bias=False),
            numbers(4, 4),
        ),
        "attention, masked": (
            lambda: attention(lambda m, x: m.out(m.mix(x, x, x, attn_mask=causal(x))[0][:, -1])),
            numbers(4, 4),
        ),
        "attention, padded": (
            lambda: attention(lambda m, x: m.out(m.mix(x, x, x, key_padding_mask=x[..., 0] > 0.8)[0][:, -1])),
            lambda: torch.randn(ROWS, 4, 4).clamp(max=0.7),
        ),
        "cross attention": (lambda: attention(lambda m, x: m.out(m.mix(x[:, :2], x, x)[0].mean(1))), numbers(4, 4)),
        "attention, other widths": (
            lambda: Net(
                lambda m, x: m.out(m.mix(x, x[..., :3], x[..., 1:])[0].mean(1)),
                mix=nn.MultiheadAttention(4, 2, batch_first=True, kdim=3, vdim=3),
                out=lin(4),
            ),
            numbers(4, 4),
        ),
        "attention, extra keys": (
            lambda: attention(lambda m, x: m.out(m.mix(x, x, x)[0].mean(1)), add_bias_kv=True, add_zero_attn=True),
            numbers(4, 4),
        ),
        "attention, sequence first": (
            lambda: Net(
                lambda m, x: m.out(to_itself(m.mix, x.transpose(0, 1)).mean(0)),
                mix=nn.MultiheadAttention(4, 2),
                out=lin(4),
            ),
            numbers(3, 4),
        ),
        "encoder layer": (
            lambda: Net(
                lambda m, x: m.out(m.body(x).mean(1)),
                body=nn.TransformerEncoderLayer(4, 2, 6, batch_first=True),
                out=lin(4),
            ),
            numbers(4, 4),
        ),
        "encoder layer, norm first": (
            lambda: Net(
                lambda m, x: m.out(m.body(x).mean(1)),
                body=nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=True, activation="gelu"),
                out=lin(4),
            ),
            numbers(3, 4),
        ),
        "encoder layer, sequence first": (
            lambda: Net(
                lambda m, x: m.out(m.body(x.transpose(0, 1)).mean(0)),
                body=nn.TransformerEncoderLayer(4, 2, 6),
                out=lin(4),
            ),
            numbers(3, 4),
        ),
        "encoder with an opaque part": (
            lambda: Net(
                lambda m, x: m.out(m.body(x * m.gain).mean(1)),
                body=nn.TransformerEncoderLayer(4, 2, 6, batch_first=True),
                gain=raw(4),
                out=lin(4),
            ),
            numbers(4, 4),
        ),
        "decoder layer": (
            lambda: Net(
                lambda m, x: m.out(m.body(x[:, :2], x).mean(1)),
                body=nn.TransformerDecoderLayer(4, 2, 6, batch_first=True),
                out=lin(4),
            ),
            numbers(4, 4),
        ),
        "gpt": (
            lambda: Net(
                gpt,
                words=nn.Embedding(6, 4),
                places=nn.Embedding(3, 4),
                first=lively(nn.LayerNorm(4)),
                mix=nn.MultiheadAttention(4, 2, batch_first=True),
                second=lively(nn.LayerNorm(4)),
                up=lin(4, 8),
                down=lin(8, 4),
                out=lin(4),
            ),
            tokens(6, 3),
        ),
        "lstm": (lambda: recurrent(nn.LSTM), numbers(4, 3)),
        "lstm, two layers, both ways": (lambda: recurrent(nn.LSTM, num_layers=2, bidirectional=True), numbers(3, 3)),
        "gru": (lambda: recurrent(nn.GRU), numbers(4, 3)),
        "rnn": (lambda: recurrent(nn.RNN), numbers(4, 3)),
        "rnn relu": (lambda: recurrent(nn.RNN, nonlinearity="relu"), numbers(4, 3)),
        "gru cells": (lambda: cells(nn.GRUCell, 1), numbers(3, 3)),
        "lstm cells": (lambda: cells(nn.LSTMCell, 2), numbers(3, 3)),
        "rnn cells": (lambda: cells(nn.RNNCell, 1), numbers(3, 3)),
    }
    return zoo


ZOO = everything()

# networks that have no Gauss-Newton matrix of independent rows, or that change their way: to be refused
REFUSED = {
    "batch mean": (lambda: Net(lambda m, x: m.a(x) - m.a(x).mean(0), a=lin(4)), numbers(4)),
    "batch mean inside": (lambda: Net(lambda m, x: m.b(m.a(x) - m.a(x).mean(0)), a=lin(4, 5), b=lin(5)), numbers(4)),
    "softmax over rows": (lambda: Net(lambda m, x: m.b(torch.softmax(m.a(x), 0)), a=lin(4, 5), b=lin(5)), numbers(4)),
    "batch norm without statistics": (
        lambda: nn.Sequential(lin(4, 5), nn.BatchNorm1d(5, track_running_stats=False), lin(5)),
        numbers(4),
    ),
    "dropout for ever": (
        lambda: Net(lambda m, x: m.b(F.dropout(m.a(x), 0.5, training=True)), a=lin(4, 99), b=lin(99)),
        numbers(4),
    ),
    "noise": (lambda: Net(lambda m, x: m.b(m.a(x) + torch.randn(5)), a=lin(4, 5), b=lin(5)), numbers(4)),
    "one axis": (lambda: Net(lambda m, x: m.a(x)[:, 0], a=lin(4)), numbers(4)),
    "three axes": (lambda: lin(4), numbers(3, 4)),
    "other rows": (lambda: Net(lambda m, x: m.a(x[:1]), a=lin(4)), numbers(4)),
    "another way later": (lambda: Net(masked, a=lin(4), b=lin(4)), marked(4)),
    "a hidden use later": (lambda: Net(late, a=lin(4)), marked(4)),
}


def animal(name, seed=0, dtype=torch.float64):
    """(network in evaluation mode, rows of inputs): the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make, rows = ZOO[name] if name in ZOO else REFUSED[name]
        network, x = make(), rows()
    return network.to(dtype).eval(), x.to(dtype) if x.is_floating_point() else x


def jacobians(network, x):
    """(B, C, P) of each row alone, by autograd, one output after the other; trained parameters in their order."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    flat = lambda g, p: torch.zeros_like(p).flatten() if g is None else (g.to_dense() if g.is_sparse else g).flatten()
    rows = []
    for b in range(len(x)):
        out = network(x[b : b + 1])[0]
        each = [torch.autograd.grad(o, parameters, retain_graph=True, allow_unused=True) for o in out]
        rows.append(torch.stack([torch.cat(list(map(flat, g, parameters))) for g in each]))
    return torch.stack(rows).detach()
