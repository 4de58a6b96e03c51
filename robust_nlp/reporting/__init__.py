"""What a run says: numbers, words, charts and pages."""
