"""What a report says of a deployment beyond its files: classes, subgroups, samples, layers' noise, bounds kept."""
