"""`flywheel plan`: how many engines a promise needs, from what `flywheel bench` measured of one."""
