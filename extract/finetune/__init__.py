"""Fine-tuning of encoders, without a leak: no head sees a vector of an encoder that was trained on its test rows."""
