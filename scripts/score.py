"""Score a recipe on as many processes as are launched; the same as `robust-nlp score`.

    accelerate launch scripts/score.py recipes/smoke.yaml
    torchrun --nproc_per_node 2 scripts/score.py recipes/smoke.yaml --limit 200

The processes share the parts. On a machine without a GPU, use `torchrun`: `accelerate launch`
may start a single process there.
"""

import typer

from robust_nlp.cli import score

if __name__ == "__main__":
    typer.run(score)
