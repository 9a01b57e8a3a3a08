"""What a hospital or a public cohort delivers: DICOM series and radiotherapy objects, read into a cohort folder."""
