"""The data set, and images as a model takes them: archives, batches, preprocessing, thumbnails."""
