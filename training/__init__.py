"""Trains and evaluates CLAP models: log-mel front end, CNN14 and HTSAT, a text encoder, a contrastive loss."""
