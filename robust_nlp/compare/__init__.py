"""Comparisons: many methods on one recipe's data, measured alike, with what each of them costs."""
