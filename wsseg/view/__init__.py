"""Pictures for people: overlays, contact sheets and a one-file report. Arrays in, pictures out."""
