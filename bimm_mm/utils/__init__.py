"""Files, media and tables: helpers without OpenMMLab."""
