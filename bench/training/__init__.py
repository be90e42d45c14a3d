"""Training of any trainable method: plan, feed, engine, checkpoints, validation, log. `bench/train.py` is the loop."""
