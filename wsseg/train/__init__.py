"""Training: losses, E-steps, sampling, augmentation and the loop; knows no command line."""
