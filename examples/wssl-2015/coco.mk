# With COCO (2017's files: the 123,287 images of 2014's trainval), as well as all masks of VOC:
#   table5   COCO's tags; Cross-Joint with 5,000 masks, with those and the others' tags, with all;
#            Cross-Pretrain
#   table6   Cross-Pretrain and Cross-Joint for the test server, also with the multi-scale net
# COCO= is the folder of annotations/instances_train2017.json, instances_val2017.json, train2017/ and
# val2017/. COCO_STRONG= images keep their masks in the semi-supervised rows.
COCO_STRONG ?= $(if $(filter paper,$(SCALE)),5000,25)
COCO_SPLITS ?= train2017 val2017
COCO_FILES := $(COCO_SPLITS:%=$(COCO)/annotations/instances_%.json)

$(call wants,table5 table6,$(COCO_FILES),COCO= names the folder of COCO (make data says where it comes from))
# the 81 classes in VOC's order, under VOC's names
RENAME := airplane=aeroplane,dining table=diningtable,motorcycle=motorbike,potted plant=pottedplant
RENAME := $(RENAME),couch=sofa,tv=tvmonitor
$(COCO_SPLITS:%=$(OUT)/coco-%.h5): $(OUT)/coco-%.h5: $(COCO)/annotations/instances_%.json | $(NOTED) $(call from,COCO)
	ws-cat --from coco $(COCO) --split $* --classes coco.txt --labels --only label \
	  --rename '$(RENAME)' --overwrite -o $@
$(OUT)/coco.h5: $(COCO_SPLITS:%=$(OUT)/coco-%.h5)
	ws-cat $^ --overwrite -o $@
$(OUT)/masks81.h5: $(TRAIN) | $(NOTED)
	ws-cat $(MASKS) --classes coco.txt --truth --rename '$(RENAME)' --keys $< --overwrite -o $@
$(OUT)/coco-strong.tar: $(OUT)/coco.h5
	ws-weaken $< --tags --count $(COCO_STRONG) --part strong --overwrite -o $@
$(OUT)/coco-tags.tar: $(OUT)/coco.h5
	ws-weaken $< --tags --overwrite -o $@
$(OUT)/joint.h5: $(OUT)/masks81.h5 $(OUT)/coco-strong.tar
	ws-cat $^ --overwrite -o $@
# the photos of both, as links
$(OUT)/photos.done: $(COCO_FILES) | $(NOTED)
	rm -rf $(OUT)/photos && mkdir $(OUT)/photos
	find $(abspath $(IMAGES) $(COCO_SPLITS:%=$(COCO)/%)) -name '*.jpg' -exec ln -st $(OUT)/photos {} +
	touch $@

# $(call joint,NAME,PLACES,OPTIONS): a row whose photos are of both, and whose classes may be 81
joint = $(eval $(call row,$(1),$(2) $(OUT)/photos.done,$(3) $(NET))) \
  $(eval $(SEEDS:%=$(OUT)/$(1)-%/model.safetensors): private IMAGES := $(OUT)/photos) \
  $(eval $(call labels,$(1)) $(SEEDS:%=$(OUT)/test/$(1)-%.tgz): private PREDICT += --as-classes voc)
# Cross-Joint's classes are joined by name; where tags are learnt from, all images have all 81
JOIN := --weak $(OUT)/coco.h5 --join-classes
SEMI := --weak $(OUT)/coco-tags.tar --weak-loss em-fixed --ratio 1:1
$(call joint,em-coco,$(OUT)/masks81.h5 $(OUT)/coco-tags.tar,$(OUT)/masks81.h5 $(SEMI))
$(call joint,joint-semi,$(OUT)/joint.h5 $(OUT)/coco-tags.tar,$(OUT)/joint.h5 $(SEMI))
$(call joint,joint-some,$(OUT)/masks.h5 $(OUT)/coco-strong.tar,$(OUT)/masks.h5 --join-classes \
  --weak $(OUT)/coco-strong.tar)
$(call joint,joint,$(OUT)/masks.h5 $(OUT)/coco.h5,$(OUT)/masks.h5 $(JOIN))
$(foreach net,one msc,$(eval $(call row,coco-$(net),$(OUT)/coco.h5 $(OUT)/photos.done,$(OUT)/coco.h5 $(NET) \
    $(filter --msc,$(net:msc=--msc)))) \
  $(eval $(SEEDS:%=$(OUT)/coco-$(net)-%/model.safetensors): private IMAGES := $(OUT)/photos))
# Cross-Pretrain: from COCO's net, but for its classifier
$(eval $(call row,pretrain,$(OUT)/masks.h5 $(OUT)/coco-one-%/model.safetensors,$(OUT)/masks.h5 \
  --init $(OUT)/coco-one-%/model.safetensors $(NET)))
$(foreach net,one msc,$(eval $(call row,tv-pretrain-$(net),$(OUT)/trainval.h5 $(OUT)/coco-$(net)-%/model.safetensors,\
    $(OUT)/trainval.h5 --init $(OUT)/coco-$(net)-%/model.safetensors $(NET) $(filter --msc,$(net:msc=--msc)))) \
  $(call joint,tv-joint-$(net),$(OUT)/trainval.h5 $(OUT)/coco.h5,$(OUT)/trainval.h5 $(JOIN) \
    $(filter --msc,$(net:msc=--msc))))

$(eval $(call table,table5,strong em-coco joint-semi joint-some pretrain joint))
$(eval $(call archives,table6,$(foreach net,one msc,tv-pretrain-$(net) tv-joint-$(net))))
