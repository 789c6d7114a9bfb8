"""Captions and their pictures agree, words reach the network, and the command says what it knows."""

import json
import random
import re
import sys

import pytest
import torch
from PIL import Image

from diffusion_helpers import draw, edits, schedules, weights, words
from diffusion_helpers.bench import anagrams
from diffusion_helpers.bench import captions as bench
from diffusion_helpers.bench.reports import RESULTS
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.lessons.widgets.words import looks, prompt_frame
from diffusion_helpers.words import grammar, judge, scenes
from diffusion_helpers.words.network import CaptionUNet, CrossAttention, prompted

FIELD = {name: i for i, name in enumerate(grammar.FIELDS)}


@pytest.fixture(scope="module")
def many():
    return words.make(400, seed=0)


@pytest.fixture
def model():
    """A small network whose every weight is drawn, so that nothing in it is still zero."""
    torch.manual_seed(0)
    net = CaptionUNet(widths=(16, 32), width=16)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return Denoiser(net, "flow", schedules.flow()).eval()


def test_a_caption_becomes_its_words_and_nothing_after_them():
    row = words.tokens(["A red SEVEN, above a blue boot."])[0]
    assert [grammar.VOCABULARY[i] for i in row if i] == ["a", "red", "seven", "above", "a", "blue", "boot"]
    assert not row[7:].any() and not words.tokens([""]).any()


@pytest.mark.parametrize(
    ("caption", "says"),
    [
        ("a red sevn", "'sevn' in 'a red sevn' .did you mean seven"),
        ("a crimson tide", "word 'crimson'.*expected words of zero, one"),
        ("a " * 19, "19 words.*expected at most 18"),
    ],
)
def test_what_is_no_caption_is_refused_with_what_is(caption, says):
    with pytest.raises(ValueError, match=says):
        words.tokens([caption])


def test_every_word_of_the_vocabulary_stands_once_and_every_caption_fits():
    assert len(set(grammar.VOCABULARY)) == len(grammar.VOCABULARY)
    choose, generator = random.Random(0), torch.Generator().manual_seed(0)
    for scene in scenes.draw(3000, generator, 0.7, held_out=False).tolist():
        words.tokens([grammar.sentence(scene, True, choose)])


def phrases(caption):
    """The colour and kind of each thing in a caption, in the order of the words."""
    found, text = [], caption.split()
    for colour, thing in zip(text, text[1:], strict=False):
        if colour in grammar.COLOURS:
            thing = grammar.THINGS[int(thing)] if thing.isdigit() else thing
            found.append((grammar.THINGS.index(thing), grammar.COLOURS.index(colour)))
    return found


def test_a_caption_says_which_thing_is_where(many):
    for caption, scene in zip(many.captions, many.scenes.tolist(), strict=True):
        first, second = tuple(scene[3:5]), tuple(scene[6:8])
        text = caption.split()
        if scene[0] == 0:
            assert phrases(caption) == [first]
            continue
        relations = {1: ({"left"}, {"right"}), 2: ({"above", "over"}, {"below", "under"})}[scene[0]]
        forward, back = (bool(each & set(text)) for each in relations)
        assert forward != back
        assert phrases(caption) == ([first, second] if forward else [second, first])


def test_the_ground_is_named_where_it_is_said_and_small_things_are_called_small(many):
    for caption, scene, said in zip(many.captions, many.scenes.tolist(), many.says_ground.tolist(), strict=True):
        named = {"black", "grey", "white"} & set(caption.split())
        assert named == ({grammar.GROUNDS[scene[1]]} if said else set())
        small = sum(word in ("small", "little", "tiny") for word in caption.split())
        assert small == (scene[5] == 1) + (scene[0] > 0 and scene[8] == 1)


def test_the_paint_is_where_the_caption_says(many):
    """Of two things, what differs from the ground has the colour of the thing in that half, but for what a stroke of the
    other thing paints beyond the middle."""
    own = []
    grounds = scenes.GREYS[many.scenes[:, 1]].reshape(-1, 1, 1, 1)
    ink = many.images.float() - grounds
    for image, scene in zip(ink, many.scenes.tolist(), strict=True):
        if scene[0] == 0:
            continue
        halves = image.chunk(2, 2 if scene[0] == 1 else 1)
        for half, colour in zip(halves, (scene[4], scene[7]), strict=True):
            strong = half.abs().sum(0) > 60
            assert strong.any()
            paint = scenes.PAINTS[colour] - scenes.GREYS[scene[1]]
            alike = torch.nn.functional.cosine_similarity(half[:, strong], paint[:, None], dim=0)
            own.append((alike > 0.95).double().mean())
    assert min(own) > 0.5 and sum(own) / len(own) > 0.95


def test_the_same_seed_is_the_same_pictures_and_another_is_not(many):
    again, other = words.make(400, seed=0), words.make(400, seed=1)
    assert torch.equal(again.images, many.images) and again.captions == many.captions
    assert not torch.equal(other.images, many.images)


def test_held_out_pairs_are_in_no_scene_but_those_that_are_asked_for(many):
    held = scenes.HELD_OUT
    assert 0.1 < held.double().mean() < 0.15 and held.any(0).all() and (~held).any(0).all() and (~held).any(1).all()
    pair = many.scenes[:, 0] > 0
    assert not held[many.scenes[:, 3], many.scenes[:, 4]].any()
    assert not held[many.scenes[pair, 6], many.scenes[pair, 7]].any()
    asked = words.make(50, seed=0, held_out=True).scenes
    assert held[asked[:, 3], asked[:, 4]].all() and not held[asked[:, 6], asked[:, 7]][asked[:, 0] > 0].any()


@pytest.mark.parametrize(("n", "two"), [(0, 0.5), (3, 1.5)])
def test_impossible_numbers_of_scenes_are_refused(n, two):
    with pytest.raises(ValueError, match=f"{n} scenes, a share of {two}"):
        words.make(n, 0, two=two)


def test_each_word_and_their_order_reach_the_answer(model):
    x, level = torch.randn(4, 3, 32, 32), model.schedule(torch.tensor(0.5))
    captions = ["a red seven above a blue boot", "a blue seven above a red boot", "a red seven below a blue boot", ""]
    answers = prompted(model, captions)(x[:1].expand(4, -1, -1, -1), level).x0
    for i in range(4):
        for j in range(i):
            assert (answers[i] - answers[j]).abs().max() > 1e-3


def test_tokens_and_what_the_encoder_made_of_them_give_one_answer(model):
    x, y = torch.randn(2, 3, 32, 32), words.tokens(["a red seven", "a small blue boot on white"])
    t = torch.tensor([0.3, 0.8])
    assert torch.allclose(model.net(x, t, y), model.net(x, t, model.net.encode(y)), atol=1e-6)


def test_a_fresh_network_hears_no_word_until_it_has_learnt():
    net = CaptionUNet(widths=(16, 32), width=16)
    part = next(part for part in net.modules() if isinstance(part, CrossAttention))
    h = torch.randn(2, 16, 4, 4)
    assert torch.equal(part(h, torch.randn(2, grammar.LENGTH, 16)), h)


def test_each_pixel_shares_itself_out_among_the_words(model):
    part = next(part for part in model.net.modules() if isinstance(part, CrossAttention))
    share = part.looks(torch.randn(2, 16, 4, 5), torch.randn(2, 7, 16))
    assert share.shape == (2, 7, 4, 5) and (share > 0).all()
    assert torch.allclose(share.sum(1), torch.ones(2, 4, 5))


def test_attention_does_not_depend_on_the_order_of_the_words_it_is_given(model):
    """The order comes in with the places alone."""
    part = next(part for part in model.net.modules() if isinstance(part, CrossAttention))
    h, given = torch.randn(1, 16, 4, 4), torch.randn(1, 7, 16)
    assert torch.allclose(part(h, given), part(h, given.flip(1)), atol=1e-5)


def test_a_dropped_caption_is_the_empty_one(model):
    images, some = torch.rand(6, 3, 32, 32), words.tokens(["a red seven"] * 6)

    def loss(y, drop):
        torch.manual_seed(1)
        return model.loss(images, y, drop=drop).item()

    assert loss(some, 1.0) == loss(words.tokens([""] * 6), 0.0) != loss(some, 0.0)


def test_guidance_by_words_is_one_call_and_the_line_through_both_answers(model):
    x, level = torch.randn(2, 3, 32, 32), model.schedule(torch.tensor(0.5))
    c, u = prompted(model, ["a red seven", "a boot"]), prompted(model, ["", ""])
    calls = []
    hook = model.net.register_forward_pre_hook(lambda net, inputs: calls.append(len(inputs[0])))
    found = edits.guide(c, u, 3.0)(x, level).x0
    hook.remove()
    assert calls == [4]
    assert torch.allclose(found, u(x, level).x0 + 3 * (c(x, level).x0 - u(x, level).x0), atol=1e-4)


def test_what_reads_no_captions_and_captions_of_another_length_are_refused(model):
    with pytest.raises(ValueError, match="captions for a CourseUNet"):
        prompted(weights.load("mnist-guided"), ["a red seven"])
    with pytest.raises(ValueError, match=r"labels of shape \(2, 5\): expected \(2, 18\)"):
        model.loss(torch.zeros(2, 3, 32, 32), torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"captions of shape None: expected \(2, 18\)"):
        model.net(torch.zeros(2, 3, 32, 32), torch.zeros(2), None)


def test_the_judge_holds_nobody_to_what_was_not_said(many):
    asked = words.Scenes(*(part[:50] for part in many[:4]), many.source)
    seen = asked.scenes.clone()
    assert judge.right(seen, asked).all()
    seen[:, FIELD["ground"]] = (seen[:, FIELD["ground"]] + 1) % 3
    assert (judge.right(seen, asked).all(1) == ~asked.says_ground).all()
    seen = asked.scenes.clone()
    seen[:, FIELD["second thing"]] = (seen[:, FIELD["second thing"]] + 1) % 16
    assert (judge.right(seen, asked).all(1) == (asked.scenes[:, 0] == 0)).all()


def test_the_shipped_judge_reads_real_scenes_and_no_noise():
    net, asked = weights.load("captions-judge"), words.make(200, seed=5, split="test")
    found = bench.shares(net, asked.images / 127.5 - 1, asked)
    assert found["all"] > 0.8 and min(found["fields"].values()) > 0.9
    assert bench.shares(net, torch.rand(200, 3, 32, 32) * 2 - 1, asked)["all"] < 0.05


def test_the_shipped_model_draws_what_the_caption_says():
    model, net = weights.load("captions"), weights.load("captions-judge")
    asked = words.make(40, seed=5, two=1.0)
    images = bench.drawn(model, asked.captions, gamma=3.0, steps=20, seed=0)
    right = bench.shares(net, images, asked)["all"]
    other = words.Scenes(
        *(part[20:] + part[:20] if isinstance(part, list) else part.roll(20, 0) for part in asked[:4]), ""
    )
    assert right > 0.6 and right > bench.shares(net, images, other)["all"] + 0.5


def test_the_typed_caption_is_drawn_with_each_word_or_answered_with_those_that_are_known(model):
    frame = prompt_frame(model, "a red seven", gamma=2.0, seed=0)
    assert [axis.get_title() for axis in frame.axes] == ["γ = 2, noise 0", "a", "red", "seven"]
    assert len(prompt_frame(model, "", gamma=2.0, seed=0).axes) == 1
    (axis,) = prompt_frame(model, "a red sevn", gamma=2.0, seed=0).axes
    assert "did you mean seven" in axis.texts[0].get_text()


def test_a_word_that_stands_twice_is_looked_at_twice(model):
    shares = looks(model, "a red six above a blue six", torch.zeros(3, 32, 32), t=0.5)
    assert list(shares) == ["a", "red", "six", "above", "a (2)", "blue", "six (2)"]
    assert all(share.shape == (16, 16) for share in shares.values())
    assert not torch.allclose(shares["six"], shares["six (2)"])


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["draw", *map(str, arguments)])
        draw.main()


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (["a red seven above a blue boot", "--steps", 2, "--columns", 2, "--scale", 1], (67, 34)),
        (["7", "--model", "mnist-guided-residual", "--steps", 2, "--scale", 2], (56, 56)),
        (["--model", "mnist-ddpm", "--steps", 2, "--scale", 1, "--rows", 2], (30, 59)),
        (["sandal", "--model", "fashion-guided", "--steps", 2, "--scale", 1], (28, 28)),
    ],
    ids=["words", "digit", "no classes", "clothes"],
)
def test_the_command_draws_with_any_model(given, size, tmp_path, capsys):
    command(*given, "--to", tmp_path / "picture.png")
    assert Image.open(tmp_path / "picture.png").size == size
    assert "written to" in capsys.readouterr().out


def test_the_way_is_a_picture_for_each_level(tmp_path):
    command("a red seven", "--steps", 3, "--scale", 1, "--to", tmp_path / "way.gif")
    assert Image.open(tmp_path / "way.gif").n_frames == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a red sevn"], "did you mean seven"),
        (["12", "--model", "mnist-guided"], "class '12': expected one of 0, 1, 2"),
        (["boots", "--model", "fashion-guided"], "class 'boots': expected one of T-shirt/top, trouser"),
        (["3", "--model", "mnist-ddpm"], "'3' for a model without classes"),
        (["3", "--model", "mnist-classifier"], "mnist-classifier draws nothing"),
        (["3", "--model", "nobody"], "'nobody': expected one of .*captions"),
        (["a boot", "--to", "picture.jpeg"], "expected a path that ends in .png or .gif"),
        (["a boot", "--steps", "0"], "steps = 0: expected at least 1"),
        (["a boot", "--sampler", "magic"], "sampler 'magic': expected one of ddim"),
    ],
)
def test_the_command_says_what_it_knows(given, says, capsys):
    with pytest.raises(SystemExit):
        command(*given)
    message = " ".join(capsys.readouterr().err.split())
    assert re.search(says, message)


# ---- two captions in one picture


def seen(*fields):
    """A network that sees this scene in every image, named in the order of ``FIELDS``."""
    places = [names.index(field) for names, field in zip(grammar.FIELDS.values(), fields, strict=True)]
    answer = torch.cat([torch.eye(n)[place] for n, place in zip(judge.HEADS, places, strict=True)])
    net = torch.nn.Identity()
    net.forward = lambda images: answer.expand(len(images), -1)
    return net


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("a red six left of a blue nine on white", True),
        ("a red six left of a blue nine", True),
        ("a blue six left of a red nine", False),
        ("a red nine left of a blue six", False),
        ("a red six above a blue nine", False),
        ("a red six", False),
    ],
)
def test_two_things_are_read_with_their_colours_and_their_order(caption, right):
    net = seen("side by side", "white", "middle", "six", "red", "usual", "nine", "blue", "usual")
    assert anagrams.reads(net, torch.zeros(3, 3, 32, 32), caption).tolist() == [right] * 3


def test_one_thing_is_read_where_there_is_one():
    net = seen("alone", "white", "left", "bag", "green", "big", "zero", "red", "usual")
    assert anagrams.reads(net, torch.zeros(1, 3, 32, 32), "a green bag on white").all()
    assert not anagrams.reads(net, torch.zeros(1, 3, 32, 32), "a green bag above a red zero").any()


@pytest.mark.parametrize("view", anagrams.VIEWS.values(), ids=anagrams.VIEWS)
def test_every_view_of_the_anagrams_has_its_way_back(view):
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(view.back(view.look(images)), images) and not torch.equal(view.look(images), images)


def test_one_caption_twice_and_upright_is_the_control_and_another_is_not(model, monkeypatch):
    pair = anagrams.PAIRS[0]
    alone = bench.drawn(model, [pair.first] * 2, gamma=2.0, seed=3)
    assert not torch.allclose(alone, anagrams.drawn(model, pair, 2, gamma=2.0, seed=3))
    monkeypatch.setitem(anagrams.VIEWS, "upright", edits.UPRIGHT)
    twice = anagrams.Pair(pair.first, pair.first, "upright")
    torch.testing.assert_close(anagrams.drawn(model, twice, 2, gamma=2.0, seed=3), alone)


def test_the_stored_counts_are_of_all_pairs_and_of_their_captions():
    stored = json.loads((RESULTS / "anagrams.json").read_text(encoding="utf-8"))
    assert [tuple(row["pair"]) for row in stored["found"]] == list(anagrams.PAIRS)
    assert all(row["both"] <= row["first"] <= stored["settings"]["attempts"] for row in stored["found"])
    for pair in anagrams.PAIRS:
        words.tokens([pair.first, pair.second])
