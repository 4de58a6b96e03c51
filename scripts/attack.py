"""Attack a recipe on as many processes as are launched; the same as `robust-nlp attack`.

    accelerate launch scripts/attack.py recipes/smoke.yaml
    torchrun --nproc_per_node 2 scripts/attack.py recipes/smoke.yaml --limit 200

The processes share the texts. On a machine without a GPU, use `torchrun`: `accelerate launch`
may start a single process there.
"""

import typer

from robust_nlp.cli import attack

if __name__ == "__main__":
    typer.run(attack)
