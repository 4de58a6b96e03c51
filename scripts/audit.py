"""Audit a run on as many processes as are launched; the same as `robust-nlp audit`.

    accelerate launch scripts/audit.py runs/smoke
    torchrun --nproc_per_node 2 scripts/audit.py runs/smoke --limit 100

The processes share the texts. On a machine without a GPU, use `torchrun`: `accelerate launch`
may start a single process there.
"""

import typer

from robust_nlp.cli import audit

if __name__ == "__main__":
    typer.run(audit)
