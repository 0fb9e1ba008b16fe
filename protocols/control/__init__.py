"""What Sidebus answers about itself, under `/_sidebus/`."""
