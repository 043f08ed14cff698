"""How a backbone is made: teacher features, distillation of a small encoder, k-means units, GSLM pretraining."""
