"""Rows that tests of effects share, and what the command says of them."""

import numpy as np

from kokkiri.cli.main import main

KIDNEY = {("A", "small"): (81, 87), ("A", "large"): (192, 263), ("B", "small"): (234, 270), ("B", "large"): (55, 80)}
STONES = "size -> {treatment, recovered}; treatment -> recovered"


def rows_between(columns, start, stop):
    """Some rows of a dict of columns."""
    return {name: values[start:stop] for name, values in columns.items()}


def straight(n=200, seed=0):
    """A linear world: age and city act on a treatment t, a dose and y; t adds 2 to y, the dose 0.7."""
    rng = np.random.default_rng(seed)
    age, city = rng.normal(10, 3, n), rng.choice(list("abc"), n)
    t = (rng.random(n) < 1 / (1 + np.exp(-(age - 10) / 3))).astype(int)
    dose = 0.3 * age + rng.normal(0, 1, n)
    y = 2 * t + 0.7 * dose + 0.5 * age + (city == "b") + rng.normal(0, 1, n)
    return {"age": age, "city": city.tolist(), "t": t, "dose": dose, "y": y}


def hidden(n=300, seed=0, strength=1.0, instruments=1):
    """A hidden cause acts on t and y; z moves t, w acts on z, t and y; t adds 1.5 to y."""
    rng = np.random.default_rng(seed)
    u, w = rng.normal(0, 1, (2, n))
    z = rng.normal(0, 1, (instruments, n)) + w
    t = strength * z.sum(0) + u + w + rng.normal(0, 1, n)
    y = 1.5 * t + 2 * u - w + rng.normal(0, 1, n)
    return {"t": t, "y": y, "w": w, **{f"z{k}" if instruments > 1 else "z": z[k] for k in range(instruments)}}


def categories(n=400, seed=0, doses=3):
    """A discrete world: sex and stage act on a dose and on recovery."""
    rng = np.random.default_rng(seed)
    sex, stage = rng.choice(["f", "m"], n), rng.choice(["early", "late", "mid"], n)
    lean = (sex == "m") + (stage == "late")
    dose = np.clip(rng.integers(0, doses, n) + (rng.random(n) < 0.3 * lean), 0, doses - 1)
    recovered = rng.random(n) < 0.3 + 0.2 * dose / doses - 0.1 * lean
    return {"sex": sex.tolist(), "stage": stage.tolist(), "dose": [f"d{k}" for k in dose],
            "recovered": np.where(recovered, "yes", "no").tolist()}  # fmt: skip


def said(capsys, *arguments):
    """What a command that succeeds prints, within 80 columns."""
    code = main(["do", *arguments])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert max(map(len, printed.out.splitlines())) <= 80
    return printed.out


def refused(capsys, *arguments):
    """The four lines of a command that fails, with exit code 2."""
    code = main(["do", *arguments])
    printed = capsys.readouterr()
    assert code == 2
    assert not printed.out
    lines = printed.err.rstrip("\n").split("\n")
    assert [line[:10].strip() for line in lines[1:]] == ["needs", "found", "fix"], lines
    return printed.err
