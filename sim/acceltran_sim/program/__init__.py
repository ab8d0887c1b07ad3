"""From model weights and a configuration to commands and a memory image."""
