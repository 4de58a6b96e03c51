"""Compare methods on as many processes as are launched; the same as `robust-nlp compare`.

    accelerate launch scripts/compare.py recipes/compare/sst2.yaml
    torchrun --nproc_per_node 2 scripts/compare.py recipes/compare/smoke.yaml --budget 5

The processes share each stage. On a machine without a GPU, use `torchrun`: `accelerate launch`
may start a single process there.
"""

import typer

from robust_nlp.cli import compare

if __name__ == "__main__":
    typer.run(compare)
