"""The command `kokkiri`: parses, calls a verb, prints. Exit code 2 for bad input, 130 when interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from kokkiri.errors import KokkiriError

DESCRIPTION = """Every network is a posterior: from raw data to a trained, judged network and its report.

  kokkiri fit patients.csv --target recovered
  kokkiri predict patients-model new.csv --out predictions.csv
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives its exit code."""
    import tyro

    from kokkiri.cli.bayes import Bayes
    from kokkiri.cli.data import Data
    from kokkiri.cli.decide import Decide
    from kokkiri.cli.do import Do
    from kokkiri.cli.estimate import Estimate
    from kokkiri.cli.fit import Fit
    from kokkiri.cli.graph import Graph
    from kokkiri.cli.help import with_wrapped_help
    from kokkiri.cli.predict import Predict
    from kokkiri.cli.query import Query
    from kokkiri.cli.screen import Screen
    from kokkiri.cli.show import Show
    from kokkiri.cli.update import Update

    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"] or ["--help"]
    if given == ["--version"]:
        from importlib.metadata import version

        sys.stdout.write(f"kokkiri {version('kokkiri')}\n")
        return 0
    commands = tyro.extras.SubcommandApp()
    parts = {
        "fit": Fit, "predict": Predict, "update": Update, "show": Show, "graph": Graph, "data": Data, "bayes": Bayes,
        "screen": Screen, "decide": Decide, "query": Query, "estimate": Estimate, "do": Do,
    }  # fmt: skip
    for name, command in parts.items():
        commands.command(command, name=name)
    try:
        config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
        parse = partial(commands.cli, args=given, prog="kokkiri", description=DESCRIPTION, config=config)
        command = with_wrapped_help(given, parse)
        return command.run(given) if isinstance(command, Fit | Do) else command.run()
    except KokkiriError as error:
        if debug:
            raise
        sys.stderr.write(f"kokkiri.{type(error).__name__}: {error}\n")
        return 2
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:  # kokkiri show model | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
