"""Jobs on a box, as seen from the laptop: start, state, follow, cancel, show."""
