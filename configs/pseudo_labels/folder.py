# Your photographs, your classes, and where results go: the only file of the
# chain to edit or copy, or set the three variables in the environment.
photos = '{{$PHOTOS:data/photos}}'
classes = '{{$CLASSES:coco}}'
out = '{{$OUT:work_dirs/photos}}'
