"""SRVP: Stochastic Latent Residual Video Prediction (Franceschi et al., ICML 2020)."""
