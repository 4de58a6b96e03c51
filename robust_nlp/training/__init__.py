"""Fine-tuning under a mechanism's noise."""
