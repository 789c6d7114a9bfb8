"""Training: exact resume, averaged weights, and one known optimum."""

import copy
import itertools
import math
import re
import signal
import time
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_helpers import train
from diffusion_helpers.train import Muon, averaged, exponential, fit, linear, orthogonal
from diffusion_helpers.unet import CourseUNet, ResidualUNet

N, BATCH, EPOCHS = 20, 6, 4  # 3 whole batches an epoch, 12 steps
STEPS = EPOCHS * (N // BATCH)
DATA = (torch.linspace(-1, 1, 3 * N).reshape(N, 3), torch.linspace(-1, 1, N).square()[:, None])


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which turns that off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def network():
    """With everything that has state: BatchNorm's running statistics, dropout's random draws."""
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 1))


START = network().state_dict()


def fresh():
    net = network()
    net.load_state_dict(START)
    return net


def noisy_loss(net):
    """A loss that draws its own noise, as diffusion training does."""
    return lambda x, y: F.mse_loss(net(x + 0.1 * torch.randn_like(x)), y)


def steps_of(net, loss=None, data=DATA, **options):
    given = {"epochs": EPOCHS, "batch": BATCH, "lr": 0.01, "bar": False, "run": "toy"} | options
    return fit(net, loss or noisy_loss(net), data, **given)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole():
    """The losses and the averaged weights after each step of the uninterrupted run."""
    return [(step.loss, copy.deepcopy(step.model.state_dict())) for step in steps_of(fresh())]


def on_call(loss, n, action):
    """``loss``, with ``action()`` done within its ``n``-th call."""
    calls = itertools.count(1)

    def wrapped(*batch):
        value = loss(*batch)
        return action(value) if next(calls) == n else value

    return wrapped


def press_ctrl_c(value):
    signal.raise_signal(signal.SIGINT)
    return value


def out_of_memory(value):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("stop", [1, 2, 3, 7, STEPS])
def test_a_run_that_breaks_and_resumes_equals_the_uninterrupted_run(whole, stop, tmp_path):
    losses = []
    for step in steps_of(fresh(), checkpoint=tmp_path / "run"):
        losses.append(step.loss)
        if step.step == stop:
            break
    net = network()  # other random weights: all must come from the checkpoint
    for step in steps_of(net, checkpoint=tmp_path / "run"):
        losses.append(step.loss)
        assert equal(step.model.state_dict(), whole[step.step - 1][1])
    assert losses == [loss for loss, _ in whole]
    assert equal(net.state_dict(), whole[-1][1])


def test_a_run_stopped_after_every_step_equals_the_uninterrupted_run(whole, tmp_path):
    for loss, average in whole:
        net = fresh()
        step = next(steps_of(net, checkpoint=tmp_path / "run"))
        assert step.loss == loss
        assert equal(net.state_dict(), average)


@pytest.mark.parametrize("stop", [1, 5, STEPS])
def test_ctrl_c_within_a_step_finishes_it_and_the_resumed_run_is_exact(whole, stop, tmp_path):
    net = fresh()
    with pytest.raises(KeyboardInterrupt):
        list(steps_of(net, on_call(noisy_loss(net), stop, press_ctrl_c), checkpoint=tmp_path / "run"))
    assert equal(net.state_dict(), whole[stop - 1][1]) and not net.training
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    net = network()
    assert [step.loss for step in steps_of(net, checkpoint=tmp_path / "run")] == [loss for loss, _ in whole[stop:]]
    assert equal(net.state_dict(), whole[-1][1])


def test_ctrl_c_in_the_loop_body_leaves_the_averaged_weights_and_resumes_exactly(whole, tmp_path):
    net = fresh()
    with pytest.raises(KeyboardInterrupt):
        for step in steps_of(net, checkpoint=tmp_path / "run"):
            if step.step == 5:
                signal.raise_signal(signal.SIGINT)
    assert equal(net.state_dict(), whole[4][1])
    assert [step.loss for step in steps_of(fresh(), checkpoint=tmp_path / "run")] == [loss for loss, _ in whole[5:]]


def test_an_error_within_a_step_does_not_spoil_the_checkpoint(whole, tmp_path):
    """The failed step has drawn noise and moved BatchNorm: it must be as if it had not begun."""
    for step in steps_of(fresh(), checkpoint=tmp_path / "run"):
        if step.step == 4:
            break
    net = network()
    with pytest.raises(RuntimeError, match="out of memory"):
        list(steps_of(net, on_call(noisy_loss(net), 3, out_of_memory), checkpoint=tmp_path / "run"))
    net = network()
    losses = {step.step: step.loss for step in steps_of(net, checkpoint=tmp_path / "run")}
    assert losses == {i: whole[i - 1][0] for i in range(5, STEPS + 1)}
    assert equal(net.state_dict(), whole[-1][1])


def test_a_finished_run_gives_its_model_again_without_training(whole, tmp_path):
    list(steps_of(fresh(), checkpoint=tmp_path / "run"))
    net = network()
    assert list(steps_of(net, checkpoint=tmp_path / "run")) == []
    assert equal(net.state_dict(), whole[-1][1])


def test_a_full_disk_costs_the_checkpoint_and_not_the_model(whole, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(train, "save_state", full)
    net = fresh()
    with pytest.raises(OSError, match="no space left"):
        list(steps_of(net, checkpoint=tmp_path / "run"))
    assert equal(net.state_dict(), whole[-1][1]) and not net.training


def test_a_checkpoint_that_cannot_be_written_is_said_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    net, before = fresh(), fresh().state_dict()
    with pytest.raises(OSError):
        next(steps_of(net, checkpoint=tmp_path / "file" / "run"))
    assert equal(net.state_dict(), before)


def test_training_on_the_cpu_leaves_the_random_numbers_of_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded every GPU"))
    next(steps_of(fresh()))


def test_the_state_is_written_during_the_run_not_only_at_its_end(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(train.time, "monotonic", itertools.count(step=61).__next__)
    steps = steps_of(fresh(), checkpoint=tmp_path / "run")
    for _ in range(3):
        next(steps)
    (tmp_path / "copy").write_bytes((tmp_path / "run").read_bytes())  # as a power cut would leave it
    resumed = steps_of(network(), checkpoint=tmp_path / "copy")
    assert [step.loss for step in resumed] == [loss for loss, _ in whole[3:]]


def test_a_loop_body_that_draws_numbers_and_samples_does_not_change_training(whole):
    net = fresh()
    for step in steps_of(net):
        torch.rand(step.step)
        torch.manual_seed(step.step)
        with torch.no_grad():
            net.eval()(DATA[0]), step.model(DATA[0])
        assert step.loss == whole[step.step - 1][0]
    assert equal(net.state_dict(), whole[-1][1])


def test_the_seed_and_not_the_random_state_of_the_caller_decides(whole):
    net = fresh()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    same = [step.loss for step in steps_of(net)]
    assert torch.equal(torch.get_rng_state(), before)
    assert same == [loss for loss, _ in whole]
    assert [step.loss for step in steps_of(fresh(), seed=1)] != same


@pytest.mark.parametrize("stop", [1, 5, None])
def test_leaving_the_loop_leaves_the_averaged_weights_in_eval_mode(whole, stop):
    net = fresh()
    for step in steps_of(net):
        assert not step.model.training
        if step.step == stop:
            break
    assert not any(module.training for module in net.modules())
    assert equal(net.state_dict(), whole[(stop or STEPS) - 1][1])


def test_who_keeps_the_generator_gets_the_averaged_weights_by_closing_it(whole):
    net = fresh()
    steps = steps_of(net)
    for step in steps:
        if step.step == 5:
            break
    assert equal(step.model.state_dict(), whole[4][1]) and not step.model.training
    assert not equal(net.state_dict(), whole[4][1])
    steps.close()
    assert equal(net.state_dict(), whole[4][1]) and not net.training


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_follows_its_formula_with_warm_up(decay):
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average, expected = averaged(net, decay), None
    for n in range(30):
        value = float(n * n % 17)
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.data.fill_(value)
        average.update_parameters(net)
        d = min(decay, (1 + n) / (10 + n))
        expected = value if n == 0 else d * expected + (1 - d) * value  # the first update is a copy
        assert average.module[0].weight.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert average.module[1].running_var.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert average.module[1].num_batches_tracked.item() == value  # a count is not averaged


def test_the_learning_rate_falls_tenfold_over_the_run_by_default():
    rates = [step.lr for step in steps_of(fresh(), lr=0.5)]
    assert rates == pytest.approx([0.5 * 0.1 ** (i / STEPS) for i in range(STEPS)])
    assert exponential(0) == 1 and exponential(1) == pytest.approx(0.1)
    per_epoch = rates[3] / rates[0]
    assert per_epoch == pytest.approx(0.1 ** (1 / EPOCHS))  # the course recipe: x 0.1^(1/epochs) an epoch


def test_the_linear_rate_rises_for_two_percent_then_falls_to_zero():
    assert [step.lr for step in steps_of(fresh(), lr=0.5, decay=linear)] == [
        0.5 * linear(i / STEPS) for i in range(STEPS)
    ]
    assert (linear(0), linear(0.01), linear(0.02)) == pytest.approx((0.01, 0.51, 1.0))
    assert (linear(0.51), linear(0.755), linear(1)) == pytest.approx((0.5, 0.25, 0.0))


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e6])
def test_clipping_bounds_the_norm_of_the_gradient_that_the_optimizer_sees(clip):
    norms = []

    class Recording(torch.optim.SGD):
        def step(self, *args, **kwargs):
            gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.cat(gradients).norm()))
            return super().step(*args, **kwargs)

    net = fresh()
    list(steps_of(net, lambda x, y: 100 * noisy_loss(net)(x, y), optimizer=Recording, lr=1e-6, clip=clip))
    assert len(norms) == STEPS
    if clip < 1:
        assert norms == pytest.approx([clip] * STEPS, rel=1e-3)
    else:
        assert clip > max(norms) > 1  # large gradients pass when the bound is larger


@pytest.mark.parametrize("batch, seen", [(5, 20), (6, 18), (20, 20)])
def test_each_epoch_visits_each_image_at_most_once_in_a_new_order(batch, seen):
    net, picked = nn.Linear(1, 1), []

    def loss(index):
        picked.extend(index.tolist())
        return net(index[:, None].float()).square().mean()

    ends = [step.epoch_ends for step in steps_of(net, loss, (torch.arange(N),), batch=batch, lr=1e-4)]
    epochs = [picked[i : i + seen] for i in range(0, len(picked), seen)]
    assert len(epochs) == EPOCHS and all(len(set(epoch)) == seen for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS
    assert [i for i, end in enumerate(ends, 1) if end] == [k * (N // batch) for k in range(1, EPOCHS + 1)]


def test_images_and_labels_stay_together():
    net = nn.Linear(1, 1)

    def loss(images, labels):
        assert torch.equal(images * 2, labels)
        return net(images[:, None].float()).square().mean()

    assert len(list(steps_of(net, loss, (torch.arange(N), 2 * torch.arange(N)), lr=1e-4))) == STEPS


def test_the_steps_count_from_one_and_name_their_epoch():
    counted = [(step.step, step.steps, step.epoch) for step in steps_of(fresh())]
    assert counted == [(i + 1, STEPS, i // 3 + 1) for i in range(STEPS)]


@pytest.mark.parametrize("optimizer, lr", [(torch.optim.Adam, 0.1), (torch.optim.AdamW, 0.1), (torch.optim.SGD, 0.5)])
def test_linear_regression_arrives_at_the_least_squares_answer(optimizer, lr):
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3 + 0.1 * torch.randn(64, 1)
    design = torch.cat([x, torch.ones(64, 1)], 1)
    best = torch.linalg.lstsq(design, y).solution
    net = nn.Linear(3, 1)
    options = {"epochs": 400, "batch": 64, "lr": lr, "optimizer": optimizer, "ema": 0.9, "decay": linear}
    losses = [step.loss for step in steps_of(net, lambda x, y: F.mse_loss(net(x), y), (x, y), **options)]
    least = float((design @ best - y).square().mean())
    assert losses[-1] == pytest.approx(least, rel=0.05) and losses[0] > 10 * least
    assert torch.allclose(torch.cat([net.weight.T, net.bias[None]]), best, atol=0.05)


def test_training_goes_on_in_a_thread_where_there_is_no_ctrl_c(whole):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: [step.loss for step in steps_of(fresh())]).result() == [loss for loss, _ in whole]


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_a_batch_in_parts_gives_the_update_of_the_whole(parts):
    """Up to rounding, which Adam would blow up where a gradient is nearly 0; so SGD."""

    def weights_after(accumulate):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1)).double()
        sizes = []

        def loss(x, y):
            sizes.append(len(x))
            return F.mse_loss(net(x), y)

        data = tuple(part.double() for part in DATA)
        steps = list(steps_of(net, loss, data, accumulate=accumulate, optimizer=torch.optim.SGD, clip=0.1))
        assert set(sizes) == {BATCH // accumulate} and len(steps) == STEPS
        return torch.cat([p.flatten() for p in net.parameters()]), torch.tensor([step.loss for step in steps])

    whole, in_parts = weights_after(1), weights_after(parts)
    assert torch.allclose(whole[0], in_parts[0], rtol=1e-9, atol=1e-12)
    assert torch.allclose(whole[1], in_parts[1], rtol=1e-6)


def test_a_run_in_parts_resumes_exactly(tmp_path):
    whole = [step.loss for step in steps_of(fresh(), accumulate=2)]
    first = steps_of(fresh(), accumulate=2, checkpoint=tmp_path / "parts")
    begun = [next(first).loss for _ in range(5)]
    first.close()
    assert begun + [step.loss for step in steps_of(fresh(), accumulate=2, checkpoint=tmp_path / "parts")] == whole
    with pytest.raises(ValueError, match="another run with {'accumulate': 2}, expected {'accumulate': 1}"):
        next(steps_of(fresh(), checkpoint=tmp_path / "parts"))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_autocast_reaches_the_loss_and_leaves_the_weights_in_float32(dtype):
    net, seen = fresh(), set()

    def loss(x, y):
        out = net(x)
        seen.add(out.dtype)
        return F.mse_loss(out.float(), y)

    list(steps_of(net, loss, autocast=dtype))
    assert seen == {dtype or torch.float32} and {p.dtype for p in net.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "options, named",
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"epochs": None}, "epochs = None and seconds = None: expected one of the two"),
        ({"seconds": 3}, "epochs = 4 and seconds = 3: expected one of the two"),
        ({"epochs": None, "seconds": 0}, "seconds = 0: expected a positive number"),
        ({"batch": 0}, "batch = 0"),
        ({"batch": -4}, "batch = -4"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"lr": -1e-3}, "lr = -0.001"),
        ({"lr": math.nan}, "lr = nan"),
        ({"clip": 0}, "clip = 0"),
        ({"ema": 1.0}, "1.0: expected 0 <= ema < 1"),
        ({"ema": -0.1}, "-0.1: expected 0 <= ema < 1"),
        ({"batch": N + 1}, f"batch = {N + 1}: expected at most the number of images, {N}"),
        ({"accumulate": 0}, "accumulate = 0"),
        ({"accumulate": 4}, "batch = 6 in 4 parts: expected a multiple"),
        ({"data": (DATA[0], DATA[1][:7])}, r"\[20, 7\]: expected equal lengths"),
        ({"autocast": torch.float16}, "autocast = torch.float16: expected torch.bfloat16 or None"),
        ({"checkpoint": "run", "run": None}, "run = None with a checkpoint"),
        ({"checkpoint": "run", "run": ""}, "run = '' with a checkpoint"),
    ],
)
def test_bad_input_is_named_before_the_first_step(options, named):
    with pytest.raises(ValueError, match=named):
        next(steps_of(fresh(), **options))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_with_the_weights_still_sound(whole, bad):
    net = fresh()
    with pytest.raises(ValueError, match=rf"loss {bad} at step 3: .*lr = 0\.01"):
        list(steps_of(net, on_call(noisy_loss(net), 3, lambda value: value * bad)))
    assert equal(net.state_dict(), whole[1][1])


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run"
    next(steps_of(fresh(), checkpoint=path))
    return path


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_named_and_left_as_it_is(checkpoint, kept):
    content = checkpoint.read_bytes()[:kept]
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(checkpoint))}: expected a whole checkpoint"):
        next(steps_of(fresh(), checkpoint=checkpoint))
    assert checkpoint.read_bytes() == content


def half(progress):
    return 0.5


@pytest.mark.parametrize(
    "other, named",
    [
        ({"run": "another loss"}, "'run': 'another loss'"),
        ({"lr": 0.02}, "'lr': 0.02"),
        ({"epochs": 5}, "'epochs': 5"),
        ({"batch": 5}, "'batch': 5"),
        ({"seed": 3}, "'seed': 3"),
        ({"ema": 0.5}, "'ema': 0.5"),
        ({"clip": 2.0}, "'clip': 2.0"),
        ({"decay": half}, "'rates'"),
        ({"decay": lambda progress: 0.1 ** (2 * progress)}, "'rates'"),
        ({"optimizer": torch.optim.AdamW}, "AdamW {'lr'"),
        ({"optimizer": Muon}, "Muon {'lr'"),
        ({"optimizer": partial(torch.optim.Adam, betas=(0.5, 0.9))}, r"'betas': \(0.5, 0.9\)"),
        ({"autocast": torch.bfloat16}, "'autocast': 'torch.bfloat16'"),
        ({"data": tuple(part[:10] for part in DATA)}, r"\(10, 3\) torch.float32"),
        ({"data": (DATA[0], DATA[1] + 1e-6)}, r"\(20, 1\) torch.float32"),  # as long, and other numbers
        ({"data": (DATA[0].flip(0), DATA[1])}, r"\(20, 3\) torch.float32"),
        ({"data": (DATA[0].double(), DATA[1].double())}, r"\(20, 3\) torch.float64"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_left_as_it_is(checkpoint, other, named):
    content = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=rf"{re.escape(str(checkpoint))}: .*another run with .* expected .*{named}"):
        next(steps_of(fresh(), checkpoint=checkpoint, **other))
    assert checkpoint.read_bytes() == content


class Schedule:
    def __call__(self, progress):
        return 1 - progress / 2


@pytest.mark.parametrize("decay", [Schedule, lambda: lambda progress: 1 - progress / 2], ids=["object", "lambda"])
def test_a_rate_is_known_by_its_numbers_whatever_computes_it(decay, tmp_path):
    first = steps_of(fresh(), decay=decay(), checkpoint=tmp_path / "run")
    begun = [next(first).loss for _ in range(2)]
    first.close()
    rest = [step.loss for step in steps_of(fresh(), decay=decay(), checkpoint=tmp_path / "run")]
    assert begun + rest == [step.loss for step in steps_of(fresh(), decay=decay())]


def test_a_checkpoint_of_another_network_is_refused(checkpoint):
    net = nn.Linear(3, 1)
    with pytest.raises(ValueError, match=f"{re.escape(str(checkpoint))}: checkpoint of another network"):
        next(steps_of(net, checkpoint=checkpoint))


@pytest.mark.parametrize("part", ["model", "average", "optimizer", "random", "done", "seconds"])
def test_a_checkpoint_without_a_part_is_refused(part, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    del content[part]
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=re.escape(str(checkpoint))):
        next(steps_of(fresh(), checkpoint=checkpoint))


def test_a_checkpoint_runs_no_code(tmp_path):
    class Shell:
        def __reduce__(self):
            return pytest.fail, ("code in the file was run",)

    torch.save({"run": Shell()}, tmp_path / "run")
    with pytest.raises(ValueError, match="run: expected a whole checkpoint"):
        next(steps_of(fresh(), checkpoint=tmp_path / "run"))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "run")
    with pytest.raises(ValueError, match="run: expected a whole checkpoint"):
        next(steps_of(fresh(), checkpoint=tmp_path / "run"))


def test_the_bar_is_drawn_at_most_once_a_second(capsys):
    """Each drawing is three messages to a notebook, and who reads them after the cell holds about 2,000."""
    begun = time.monotonic()
    for _ in steps_of(fresh(), epochs=50, bar=True):
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    drawn = capsys.readouterr().err.count("step")
    assert 2 <= drawn <= seconds + 2  # the first, one a second, the last


# ---- a run of seconds


@pytest.fixture
def clock(monkeypatch):
    """A clock of which each reading is a second later than the one before, and that can be moved on."""

    class Clock:
        now = 0

        def __call__(self):
            self.now += 1
            return self.now

    monkeypatch.setattr(train.time, "monotonic", Clock())
    return train.time.monotonic


TIMED = {"epochs": None, "seconds": 10}


def test_a_run_of_seconds_ends_with_the_step_that_uses_them_up(clock):
    steps = list(steps_of(fresh(), **TIMED))
    assert [step.steps for step in steps] == [None] * len(steps)
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    before, last = [0.0, *(step.seconds for step in steps)][-2:]
    assert before < 10 <= last


def test_the_rate_of_a_run_of_seconds_follows_their_share(clock):
    steps = list(steps_of(fresh(), lr=0.5, decay=lambda progress: 1 - progress, **TIMED))
    used = [0.0, *(step.seconds for step in steps)]
    assert [step.lr for step in steps] == pytest.approx([0.5 * (1 - seconds / 10) for seconds in used[:-1]])


def test_the_body_of_the_loop_is_not_counted(clock):
    quick = [step.seconds for step in steps_of(fresh(), **TIMED)]
    slow = []
    for step in steps_of(fresh(), **TIMED):
        slow.append(step.seconds)
        clock.now += 1000
    assert slow == quick


def test_a_run_of_seconds_goes_on_with_those_that_are_left(clock, tmp_path):
    first = steps_of(fresh(), checkpoint=tmp_path / "run", **TIMED)
    begun = [next(first).seconds for _ in range(4)]
    clock.now += 1000
    first.close()
    rest = list(steps_of(network(), checkpoint=tmp_path / "run", **TIMED))
    assert rest[0].step == 5 and begun[-1] < rest[0].seconds
    assert rest[-2].seconds < 10 <= rest[-1].seconds < 1000
    assert list(steps_of(network(), checkpoint=tmp_path / "run", **TIMED)) == []
    with pytest.raises(ValueError, match="'seconds': 10.*'seconds': 11"):
        next(steps_of(fresh(), checkpoint=tmp_path / "run", epochs=None, seconds=11))


# ---- Muon


def test_orthogonal_keeps_the_directions_and_brings_every_singular_value_near_one():
    left, _ = torch.linalg.qr(torch.randn(2, 24, 24, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(2, 40, 40, dtype=torch.float64))
    values = torch.logspace(0, -2, 24, dtype=torch.float64)
    matrices = left * values @ right[:, :24]
    within = left.mT @ orthogonal(matrices) @ right[:, :24].mT  # diagonal, if the directions are the same
    sizes = within.diagonal(dim1=1, dim2=2)
    assert (within - torch.diag_embed(sizes)).abs().max() < 1e-9
    assert sizes.min() >= 0.68 and sizes.max() <= 1.21


def test_orthogonal_of_a_batch_a_transpose_and_a_multiple_is_the_same():
    matrices = torch.randn(3, 20, 50, dtype=torch.float64)
    whole = orthogonal(matrices)
    assert torch.allclose(whole, torch.stack([orthogonal(matrix) for matrix in matrices]))
    assert torch.allclose(whole.mT, orthogonal(matrices.mT))
    assert torch.allclose(whole, orthogonal(1000 * matrices), atol=1e-6)
    assert orthogonal(torch.zeros(2, 20, 50)).abs().max() == 0


def updated(weights, gradients, **options):
    """Copies of the weights after one step of Muon for each of the lists of gradients."""
    weights = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = Muon(weights, **options)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
    return [weight.detach() for weight in weights]


def test_the_first_step_of_a_hidden_weight_is_as_large_as_adamw_s():
    """AdamW's first step is lr times a sign; 0.2 is the root mean square of its later ones."""
    weight = torch.zeros(32, 16, 3, 3)
    (after,) = updated([weight], [[torch.randn_like(weight)]], lr=0.01)
    step = after.flatten(1)
    values = torch.linalg.svdvals(step / (0.01 * 0.2 * 144**0.5))
    assert values.min() >= 0.68 and values.max() <= 1.21
    assert 0.01 * 0.2 * 0.68 <= step.square().mean().sqrt() <= 0.01 * 0.2 * 1.21


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_its_flattened_matrix(order):
    weight, gradients = torch.randn(32, 16, 3, 3), torch.randn(3, 32, 16, 3, 3)
    (convolution,) = updated([weight.to(memory_format=order)], [[g.to(memory_format=order)] for g in gradients])
    (matrix,) = updated([weight.flatten(1)], [[gradient.flatten(1)] for gradient in gradients])
    assert torch.allclose(convolution.flatten(1), matrix, atol=1e-6)


def test_weights_of_one_shape_do_not_mix():
    weights, gradients = torch.randn(4, 20, 30), torch.randn(3, 4, 20, 30)
    together = updated(list(weights), [list(step) for step in gradients])
    alone = [updated([weights[i]], [[step[i]] for step in gradients])[0] for i in range(4)]
    assert torch.allclose(torch.stack(together), torch.stack(alone), atol=1e-6)


def test_what_is_not_hidden_goes_by_adamw_at_its_own_rate():
    shapes = [(30,), (4, 32, 3, 3), (32, 1), (1,)]
    weights, gradients = [torch.randn(s) for s in shapes], [[torch.randn(s) for s in shapes] for _ in range(4)]
    expected = [nn.Parameter(weight.clone()) for weight in weights]
    adamw = torch.optim.AdamW(expected, lr=3e-3, betas=(0.9, 0.99))
    for step in gradients:
        for weight, gradient in zip(expected, step, strict=True):
            weight.grad = gradient.clone()
        adamw.step()
    found = updated(weights, gradients, lr=0.1, rest=3e-3)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("net", "others"),
    [
        (ResidualUNet((32, 64), classes=10), {"embed_y.weight", "stem.1.weight", "last.2.weight"}),
        (ResidualUNet((48, 64), classes=3, channels=3), {"embed_y.weight", "stem.1.weight", "last.2.weight"}),
        (
            CourseUNet(16, time=True, classes=10),
            {"first.0.0.weight", "last.1.weight", *(f"{name}.0.weight" for name in ("t1", "t2", "c1", "c2"))},
        ),
    ],
    ids=["digits", "cells", "course"],
)
def test_pixels_times_labels_norms_and_biases_are_not_hidden(net, others):
    hidden, rest = ({id(weight) for weight in group["params"]} for group in Muon(net.parameters()).param_groups)
    names = {id(weight): name for name, weight in net.named_parameters()}
    assert hidden | rest == set(names) and not hidden & rest
    assert {names[i] for i in rest if dict(net.named_parameters())[names[i]].ndim > 1} == others


def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 24), nn.BatchNorm1d(24), nn.GELU(), nn.Linear(24, 24), nn.Linear(24, 1))


@pytest.mark.parametrize("stop", [1, 5, STEPS])
def test_a_run_with_muon_resumes_exactly(stop, tmp_path):
    net = wide()
    losses = [step.loss for step in steps_of(net, optimizer=Muon)]
    first = steps_of(wide(), optimizer=Muon, checkpoint=tmp_path / "run")
    begun = [next(first).loss for _ in range(stop)]
    first.close()
    other = wide()
    assert begun + [step.loss for step in steps_of(other, optimizer=Muon, checkpoint=tmp_path / "run")] == losses
    assert equal(other.state_dict(), net.state_dict())


def test_both_rates_of_muon_fall_together():
    seen = []

    class Watched(Muon):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            super().step()

    lrs = [step.lr for step in steps_of(wide(), lr=0.02, optimizer=partial(Watched, rest=0.005))]
    assert seen == [[lr, pytest.approx(lr / 4)] for lr in lrs] and lrs[-1] < lrs[0] / 5


def test_another_rate_of_the_rest_is_another_run(tmp_path):
    next(steps_of(wide(), optimizer=Muon, checkpoint=tmp_path / "run"))
    with pytest.raises(ValueError, match="another run with {'rates'"):
        next(steps_of(wide(), optimizer=partial(Muon, rest=5e-3), checkpoint=tmp_path / "run"))


def test_a_step_goes_down_as_far_as_any_of_its_spectral_norm():
    """To first order the loss falls by <gradient, step>, at most the sum of the gradient's singular values times that
    norm: what a step along the gradient itself misses unless they are all equal."""
    gradient = torch.randn(40, 20) * torch.logspace(0, -2, 20)
    (after,) = updated([torch.zeros(40, 20)], [[gradient]], lr=1.0)
    most = torch.linalg.matrix_norm(gradient, "nuc") * torch.linalg.matrix_norm(after, 2)
    assert -(gradient * after).sum() >= 0.68 / 1.21 * most
    along = torch.linalg.matrix_norm(gradient).square() / torch.linalg.matrix_norm(gradient, 2)
    assert -(gradient * after).sum() / torch.linalg.matrix_norm(after, 2) > along
