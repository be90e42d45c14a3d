"""The parts of an evaluation: prediction, scoring, response to pokes, records. `bench/evaluate.py` is the whole."""
