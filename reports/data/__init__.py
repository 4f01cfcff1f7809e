"""The data set, and images as a model is given them: archives, batches, preprocessing, thumbnails."""
