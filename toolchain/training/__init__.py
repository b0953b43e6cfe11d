"""Training for the target: what is trained is, bit for bit, what is deployed. Wants the extra `train`."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow says what processor this is
