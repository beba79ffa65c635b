"""Images from files: one reader for photos and data sets, or one sentence that says why not."""

from relprop.images.photo import Photo, check_photo, open_photo, read_photo, read_rgb, read_stored

__all__ = ["Photo", "check_photo", "open_photo", "read_photo", "read_rgb", "read_stored"]
