"""Run the study of a recipe on as many processes as are launched; the same as `robust-nlp domains`.

    accelerate launch scripts/domains.py recipes/train/reviews7.yaml
    torchrun --nproc_per_node 2 scripts/domains.py recipes/train/reviews7.yaml --only fishr

The processes share each training.
"""

import typer

from robust_nlp.cli import domains

if __name__ == "__main__":
    typer.run(domains)
