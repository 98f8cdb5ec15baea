# The name that CLS-SEG's configs have for it.
_base_ = './voc21.py'
title = 'VOC2012 val'
