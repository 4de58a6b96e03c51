"""Leave-one-domain-out studies: variants of a training, compared over domains and seeds."""
