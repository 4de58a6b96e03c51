"""`evaluate`'s evaluator for smoothed classifiers, with any version of transformers."""

from __future__ import annotations

from typing import Any

from evaluate import TextClassificationEvaluator  # type: ignore[import-untyped]

from robust_nlp.smoothed_pipeline import SmoothedPipeline


class SmoothedEvaluator(TextClassificationEvaluator):  # type: ignore[misc]
    """`evaluate.evaluator("text-classification")` for a `SmoothedPipeline`.

    The evaluator of evaluate takes a `SmoothedPipeline` as it is. But up to evaluate 0.4.6 it looks
    up a class that transformers 5 no longer has, whatever it is given, and fails; this one does
    not.

        pipe = smoothed.as_pipeline()
        SmoothedEvaluator().compute(
            pipe, data, metric=AbstentionAwareAccuracy(), label_mapping=pipe.label_mapping
        )
    """

    def prepare_pipeline(self, model_or_pipeline: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a `SmoothedPipeline` as it is; everything else goes the way of evaluate."""
        if isinstance(model_or_pipeline, SmoothedPipeline):
            return model_or_pipeline
        return super().prepare_pipeline(model_or_pipeline, *args, **kwargs)
