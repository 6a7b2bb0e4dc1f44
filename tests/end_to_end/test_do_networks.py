"""Effects by networks, and with a posterior of `fit` as the model of the outcome."""

import re

import numpy as np
import pytest
import torch

import kokkiri as kk
from kokkiri.causal import Networks
from kokkiri.errors import DataError, Unsupported, UsageError

FAST = Networks(folds=3, repetitions=1, replicates=0, steps=150)


def curved(n=400, seed=0):
    """What acts on both is a curve of x0; t adds 0.5 to y, and 1.5 where the sex is f; three doses."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (n, 3))
    pull = np.sin(2 * x[:, 0]) + x[:, 1]
    sex = rng.choice(["f", "m"], n)
    t = rng.random(n) < 1 / (1 + np.exp(-pull))
    dose = np.clip(np.round(pull / 2 + rng.normal(1, 0.8, n)), 0, 2).astype(int)
    y = pull + t * np.where(sex == "f", 1.5, 0.5) + 0.4 * dose + rng.normal(0, 0.5, n)
    amount = pull + rng.normal(0, 1, n)
    data = {f"x{k}": x[:, k] for k in range(3)}
    return {**data, "sex": sex.tolist(), "t": np.where(t, "yes", "no").tolist(), "dose": dose, "y": y,
            "amount": amount, "z": pull + np.tanh(amount) + rng.normal(0, 0.3, n),
            "well": rng.random(n) < 1 / (1 + np.exp(-pull - t))}  # fmt: skip


X = ["x0", "x1", "x2"]


def test_networks_are_chosen_where_counting_is_impossible_and_find_the_effect():
    effect = kk.do(curved(), {"t": "yes"}, outcome="y", graph="{x0, x1, x2} -> {t, y}; t -> y")
    assert effect.method == "networks"
    low, high = effect.interval(0.99)
    assert low < 1.0 < high  # the mean of 1.5 and 0.5
    assert effect.association.mean > 1.8
    assert effect.estimand.adjustment == ("x0", "x1", "x2")
    assert effect.nuisances.propensity.shape == (2, 400)
    assert effect.overlap is not None
    text = str(effect)
    assert max(map(len, text.splitlines())) <= 80
    assert "each row by those that have not seen it" in text
    assert effect.gap == pytest.approx(float(effect.plugin[1] - effect.plugin[0]) - effect.mean)


def test_treated_groups_and_levels():
    data = curved(600)
    about = {"outcome": "y", "method": FAST}
    groups = kk.do(data, {"t": "yes"}, adjust=X, estimand=("group", "sex"), **about).group_effects
    assert groups["f"].mean - groups["m"].mean == pytest.approx(1.0, abs=0.5)
    treated = kk.do(data, {"t": "yes"}, adjust=X, estimand="treated", **about)
    assert "among those who had t = yes" in str(treated)
    assert treated.mean == pytest.approx(1.0, abs=0.35)
    doses = kk.do(data, {"dose": 2}, versus={"dose": 0}, adjust=X, **about)
    assert doses.levels == ("0", "1", "2")
    assert doses.contrast("1", "0").mean == pytest.approx(0.4, abs=0.5)
    both = kk.do(data, {"t": "yes", "dose": 2}, versus={"t": "no", "dose": 0}, adjust=X, **about)
    assert both.levels[both.level] == "t=yes, dose=2"
    assert both.mean == pytest.approx(1.8, abs=0.9)


def test_what_networks_learnt_is_noted_in_words_and_kept_in_numbers():
    effect = kk.do(curved(), {"t": "yes"}, outcome="y", adjust=X, method=FAST)
    outcome, treatment, well = effect.notes
    assert re.fullmatch(r"the outcome is foretold by [a-z ]+ \(\d+ %\)( and [a-z ]+ \(\d+ %\))?", outcome)
    assert treatment.startswith("the treatment is foretold by ")
    assert not any(word in treatment for word in ("weak", "strong"))
    assert re.fullmatch(r"how well the treatment is foretold: 0\.\d+ nats a row better than by its shares alone", well)
    kept = effect.facts["propensity candidates"]
    assert {"linear (weak)", "linear (strong)"} < set(kept)
    assert not any("," in name for name in kept)


def test_levels_that_hardly_any_row_has_are_no_obstacle_to_others():
    """Numbers of visits from 0 to 6; only 0 and 1 are compared."""
    data = curved(500)
    data["visits"] = np.minimum(np.random.default_rng(5).poisson(np.exp(0.4 * data["x1"])), 7)
    data["z"] = data["z"] + 0.5 * data["visits"]
    counts = np.bincount(data["visits"])
    assert counts[:2].min() > 100
    assert counts[4:].tolist() == [12, 3, 1]  # the rare ones are too few even together, and take in the next
    effect = kk.do(data, {"visits": 1}, versus={"visits": 0}, outcome="z", adjust=X, method=FAST)
    assert effect.levels == ("0", "1", "2", "3", "others")
    assert effect.rows == 500
    low, high = effect.interval(0.99)
    assert low < 0.5 < high
    (note,) = (note for note in effect.notes if "taken together as others" in note)
    assert "5 (3 rows), 6 (1 row)" in note
    assert effect.overlap.clipped < effect.facts["clipped"]  # of levels that nobody compares
    more = {name: np.asarray(column)[counts.argmax() : 60] for name, column in curved(60, 9).items()}
    more["visits"] = np.where(np.arange(len(more["y"])) < 3, 6, np.arange(len(more["y"])) % 3)
    longer = effect.update(more)
    assert longer.rows == 500 + len(more["y"])
    assert note in longer.notes
    with pytest.raises(DataError, match="too few rows with 6 for networks"):
        kk.do(data, {"visits": 6}, versus={"visits": 0}, outcome="z", adjust=X, method=FAST)


def test_rows_of_a_level_that_nothing_can_be_joined_to_are_left_out_aloud():
    data = curved()
    data["t"] = ["maybe"] * 5 + data["t"][5:]
    effect = kk.do(data, {"t": "yes"}, versus={"t": "no"}, outcome="y", adjust=X, method=FAST)
    assert effect.rows == 395
    assert effect.levels == ("no", "yes")
    assert effect.warnings[0].startswith("5 rows with maybe left out: too few to learn from")


def test_a_probability_stays_one():
    effect = kk.do(curved(), {"t": "yes"}, outcome="well", adjust=X, method=FAST)
    assert effect.event == "true"
    assert ((effect.plugin > 0) & (effect.plugin < 1)).all()
    assert effect.facts["likelihood"] == "Bernoulli"


def test_what_is_seen_and_what_is_done_are_drawn_together():
    rng = np.random.default_rng(0)
    t, y = rng.random(200) < 0.5, rng.normal(size=200)
    effect = kk.do({"t": t, "y": y, "a": rng.normal(size=200)}, {"t": True}, outcome="y", adjust="a", method=FAST)
    for part in (slice(0, 500), slice(500, None)):
        assert np.corrcoef(effect.draws[part], effect.conditional[part])[0, 1] > 0.9


def test_the_corrections_are_near_one_another_and_none_is_called_too_narrow():
    effects = {
        name: kk.do(curved(), {"t": "yes"}, outcome="y", adjust=X,
                    method=Networks(folds=3, repetitions=1, replicates=0, steps=150, correction=name))
        for name in ("one-step", "targeted", "none")
    }  # fmt: skip
    assert effects["targeted"].mean == pytest.approx(effects["one-step"].mean, abs=0.15)
    assert effects["none"].sd < 0.7 * effects["one-step"].sd
    assert "too narrow" in effects["none"].warnings[0]
    with pytest.raises(UsageError, match="there is no correction 'magic'"):
        Networks(correction="magic")


def test_a_drawn_treatment_trains_no_network():
    data = curved()
    data["t"] = np.random.default_rng(3).choice(["yes", "no"], 400).tolist()
    effect = kk.do(data, {"t": "yes"}, outcome="y", adjust=())
    mean = lambda level: np.mean([y for y, t in zip(data["y"], data["t"], strict=True) if t == level])
    assert effect.method == "means"
    assert effect.mean == pytest.approx(mean("yes") - mean("no"))
    assert effect.exact.startswith("exact for normal outcomes")


def test_pictures_can_be_what_is_adjusted_for():
    """Bright pictures are treated more often, and have a larger outcome: any network that sees them will do."""
    rng = np.random.default_rng(0)
    light = rng.normal(0, 1, 240)
    image = (light[:, None, None, None] + rng.normal(0, 0.5, (240, 1, 6, 6))).astype(np.float32)
    t = (rng.random(240) < 1 / (1 + np.exp(-2 * light))).astype(int)
    y = 2 * light + 0.5 * t + rng.normal(0, 0.3, 240)
    net = lambda outputs: torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, outputs)
    )
    method = Networks(net, net, folds=2, repetitions=1, replicates=0, steps=150)
    effect = kk.do({"image": image, "t": t, "y": y}, {"t": 1}, outcome="y", adjust="image", method=method)
    assert effect.association.mean > 2
    assert abs(effect.mean - 0.5) < 0.5
    assert effect.overlap is not None
    assert str(effect)


def test_a_dose_has_a_curve_that_bends_where_what_is_seen_goes_on():
    effect = kk.do(curved(500), {"amount": 1.0}, versus=-1.0, outcome="z", adjust=X, method=FAST)
    low, high = effect.interval(0.99)
    assert low < 2 * np.tanh(1) < high
    assert effect.association.mean > effect.mean + 0.5
    curve = effect.curve
    assert curve.means.shape == curve.seen.shape == (2000, 41)
    ends = curve.means[:, -1] - curve.means[:, 0]
    assert ends.mean() < 0.7 * (curve.seen[:, -1] - curve.seen[:, 0]).mean()
    assert "done: mean" in str(effect)
    assert max(map(len, str(effect).splitlines())) <= 80
    assert "seen: no effect" in effect.picture("curve")


def test_columns_of_data_that_were_read_before_have_curves_without_a_warning():
    rows = kk.read("concrete").rows(np.arange(0, 1030, 8))
    effect = kk.do(rows, {"cement": 300}, versus={"cement": 200}, adjust="water", method=FAST)
    assert effect.outcome == "strength"
    assert effect.mean > 0


def test_an_effect_changes_along_a_column():
    data = curved(600)
    data["y"] = data["y"] + (np.array(data["t"]) == "yes") * data["x2"]
    effect = kk.do(data, {"t": "yes"}, outcome="y", adjust=X, method=FAST, estimand=("along", "x2"))
    name, curve = effect.along
    assert name == "x2"
    slope = (curve.means[:, 30] - curve.means[:, 10]) / (curve.values[30] - curve.values[10])
    assert abs(slope.mean() - 1.0) < 4 * slope.std()
    assert slope.mean() > 0.4
    assert "<svg" in effect.picture("along")
    assert "effect: mean" in str(effect)


def test_the_cause_of_an_unlucky_question_is_told():
    data = curved(120)
    with pytest.raises(Unsupported, match="too many values for levels"):
        kk.do(data, {"amount": 1.0, "t": "yes"}, versus={"amount": 0.0, "t": "no"}, outcome="z", adjust=X)
    with pytest.raises(Unsupported, match="there are no treated of a treatment that is a number"):
        kk.do(data, {"amount": 1.0}, versus=0.0, outcome="z", adjust=X, estimand="treated")
    with pytest.raises(DataError, match="too few rows with yes for networks"):
        kk.do({name: list(v)[:12] for name, v in data.items()}, {"t": "yes"}, outcome="z", adjust=X)
    with pytest.raises(DataError, match="there is no curve along 'sex'"):
        kk.do(data, {"t": "yes"}, outcome="y", adjust=X, method=FAST, estimand=("along", "sex"))
    with pytest.raises(Unsupported, match="pictures and columns cannot"):
        kk.do({**data, "image": np.zeros((120, 1, 4, 4))}, {"t": "yes"}, outcome="y", adjust=["image", "x0"])
    with pytest.raises(UsageError, match="which two settings"):
        kk.do(data, "dose", outcome="y", adjust=X)
    with pytest.raises(UsageError, match="do takes data and a treatment"):
        kk.do(data, {"t": "yes"}, {"t": "no"}, outcome="y", adjust=X)


# -- a posterior of fit ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    data = curved(500)
    columns = [*X, "t", "amount"]
    pick = lambda start, stop, y: {name: data[name][start:stop] for name in (*columns, y)}
    posts = {}
    for y in ("y", "z"):
        rows = kk.read(pick(0, 250, y), y)
        net = kk.networks.MLP(rows.inputs, [16], 1)
        posts[y] = kk.fit(rows, net, kk.Gaussian(), posterior=kk.Laplace(), steps=600, progress=False)
    return posts, pick


def test_a_posterior_of_fit_is_the_model_of_the_outcome(fitted):
    posts, pick = fitted
    effect = kk.do(posts["y"], pick(250, 500, "y"), {"t": "yes"}, adjust=[*X, "amount"], method=FAST)
    low, high = effect.interval(0.99)
    assert low < 1.0 < high
    assert "a posterior of fit" in effect.exact
    assert effect.association.mean > 1.6
    plain = kk.do(posts["y"], pick(250, 500, "y"), {"t": "yes"}, adjust=[*X, "amount"],
                  method=Networks(folds=3, repetitions=1, steps=150, correction="none"))  # fmt: skip
    assert float(plain.plugin[1] - plain.plugin[0]) == pytest.approx(float(effect.plugin[1] - effect.plugin[0]))
    assert plain.mean == pytest.approx(float(plain.plugin[1] - plain.plugin[0]), abs=0.05)


def test_a_posterior_gives_a_curve_of_dose_and_response(fitted):
    posts, pick = fitted
    effect = kk.do(posts["z"], pick(250, 500, "z"), {"amount": 1.0}, versus={"amount": -1.0}, adjust=[*X, "t"])
    assert effect.mean == pytest.approx(2 * np.tanh(1), abs=0.4)
    assert effect.association.mean > effect.mean + 0.3
    curve = effect.curve
    slope = (curve.means[:, 1:] - curve.means[:, :-1]).mean(0) / (curve.values[1:] - curve.values[:-1])
    middle = slope[(curve.values[1:] > -0.5) & (curve.values[:-1] < 0.5)].mean()
    assert middle > 1.3 * slope[-3:].mean()  # it bends
    assert any("without correction" in w for w in effect.warnings)
    assert "<svg" in effect.picture("curve")


def test_what_a_posterior_cannot_answer_is_refused(fitted):
    posts, pick = fitted
    rows = pick(250, 500, "y")
    with pytest.raises(UsageError, match="these data alone cannot say"):
        kk.do(posts["y"], rows, {"t": "yes"})
    with pytest.raises(UsageError, match="adjusts for all that its network looks at"):
        kk.do(posts["y"], rows, {"t": "yes"}, adjust="x0")
    with pytest.raises(UsageError, match="has no column 'dosis'"):
        kk.do(posts["y"], rows, {"dosis": 1}, adjust=X)
    with pytest.raises(UsageError, match="found   t → amount"):
        kk.do(posts["y"], rows, {"t": "yes"}, graph="{x0, x1, x2} -> {t, y}; t -> amount -> y")
    with pytest.raises(UsageError, match="which two settings"):
        kk.do(posts["y"], rows, "amount", adjust=[*X, "t"])
    with pytest.raises(Unsupported, match="draws no curve along 'x0'"):
        kk.do(posts["y"], rows, {"t": "yes"}, adjust=[*X, "amount"], estimand=("along", "x0"))
    with pytest.raises(DataError, match="is missing in some rows"):
        kk.do(posts["y"], {**rows, "y": [None, *rows["y"][1:]]}, {"t": "yes"}, adjust=[*X, "amount"])


def test_rows_that_the_model_was_fitted_on_are_pointed_out(fitted):
    posts, pick = fitted
    effect = kk.do(posts["y"], pick(0, 250, "y"), {"t": "yes"}, adjust=[*X, "amount"], method=FAST)
    assert any("fitted on rows of this very file" in w for w in effect.warnings)


def notes(n=600, seed=0):
    """Eight tokens a row, 0 to 19: those below 5 are grave, are treated more, and do worse; the treatment adds 1."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 20, (n, 8))
    grave = (words < 5).sum(1) - 2.0
    t = (rng.random(n) < 1 / (1 + np.exp(-grave))).astype(int)
    return {"note": torch.from_numpy(words), "t": t, "y": t - 1.5 * grave + 0.5 * rng.standard_normal(n)}


class Bag(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 8)
        self.last = torch.nn.Linear(8, outputs)

    def forward(self, x):
        return self.last(self.embed(x).sum(-2))


def test_texts_can_be_what_is_adjusted_for():
    few = Networks(network=Bag, propensity=Bag, folds=2, repetitions=1, replicates=1, steps=400)
    about = {"versus": {"t": 0}, "outcome": "y", "adjust": "note", "method": few}
    effect = kk.do(notes(), {"t": 1}, **about)
    assert effect.association.mean < 0
    assert abs(effect.mean - 1.0) < 4 * effect.sd
    assert effect.sd < 0.2
    after = effect.update(notes(900, 1))
    assert abs(after.mean - 1.0) < 4 * after.sd
    assert after.sd < effect.sd
    assert not effect.refute(simulations=20).convicted
    other = notes()
    other["note"][0, 0] = 20
    with pytest.raises(DataError, match="no embedding for some tokens"):
        kk.do(other, {"t": 1}, **about)
    with pytest.raises(DataError, match="no embedding for some tokens"):
        effect.update(other)
    with pytest.raises(UsageError, match="no default network"):
        kk.do(notes(), {"t": 1}, **{**about, "method": Networks(network=Bag, steps=10)})
