"""DICOM images: what their headers say of each frame, which frames are one volume, and its voxels."""
