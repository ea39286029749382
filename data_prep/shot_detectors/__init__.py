"""Shot detectors, one file each: the file's name is what `data.shots.detector` is set to."""
