"""Fine-tune the classifier of a recipe on as many processes as are launched.

The same as `robust-nlp train`:

    accelerate launch scripts/train.py recipes/smoke.yaml
    torchrun --nproc_per_node 2 scripts/train.py recipes/smoke.yaml
"""

import typer

from robust_nlp.cli import train

if __name__ == "__main__":
    typer.run(train)
