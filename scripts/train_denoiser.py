"""Train the denoiser of a recipe on as many processes as are launched.

The same as `robust-nlp train-denoiser`:

    accelerate launch scripts/train_denoiser.py recipes/sst2_denoised.yaml
    torchrun --nproc_per_node 2 scripts/train_denoiser.py recipes/sst2_denoised.yaml
"""

import typer

from robust_nlp.cli import train_denoiser

if __name__ == "__main__":
    typer.run(train_denoiser)
