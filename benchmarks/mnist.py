"""From raw digits to a trained network in one command: `kokkiri fit mnist`.  python benchmarks/mnist.py

CPU seconds of the whole process on two threads, reading, choosing, training, judging and the report included, and the
accuracy on the 10,000 published test images. Bars: 98.2 % within 300 s. Written to benchmarks/results/mnist.json, .md.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main():
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "kokkiri.cli.main",
            "fit",
            "mnist",
            "--out",
            f"{folder}/model",
            "--threads",
            "2",
        ]
        subprocess.run(command, check=True)
        wall = time.perf_counter() - began
        page = json.loads(Path(folder, "model", "model.json").read_text())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = page["facts"]["evaluation"]
    return {
        "command": "kokkiri fit mnist --threads 2",
        "accuracy": found["headline"]["value"],
        "log_likelihood": found["log_likelihood"]["value"],
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": wall,
        "versions": page["record"]["versions"],
        "network": page["record"]["config"]["network"][0],
    }


if __name__ == "__main__":
    found = main()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mnist.json").write_text(json.dumps(found, indent=1) + "\n")
    line = (
        f"`{found['command']}`: accuracy {100 * found['accuracy']:.2f} %, "
        f"log-likelihood {found['log_likelihood']:.4f} nats per row, "
        f"{found['cpu_seconds']:.0f} CPU s, {found['wall_seconds']:.0f} s by the clock; {found['network']}"
    )
    (RESULTS / "mnist.md").write_text(f"{__doc__}\n{line}\n")
    print(line)
