# With COCO, on which the segmentation net is trained before VOC:
#   table3   VOC weak or full after COCO weak or full: mIoU, AP and PQ
# COCO= is the folder of annotations/instances_train2017.json and train2017/.
COCO_TRAIN ?= train2017
COCO_FILE := $(COCO)/annotations/instances_$(COCO_TRAIN).json

$(call wants,table3,$(COCO_FILE),COCO= names the folder of COCO (make data says where it comes from))
$(OUT)/coco-full.h5: $(COCO_FILE) | $(NOTED) $(call from,COCO)
	ws-cat --from coco $(COCO) --split $(COCO_TRAIN) --labels --only label --overwrite -o $@
$(OUT)/coco-boxes.h5: $(COCO_FILE) | $(NOTED) $(call from,COCO)
	ws-cat --from coco $(COCO) --split $(COCO_TRAIN) --only boxes --overwrite -o $@
$(OUT)/coco-weak.h5: $(OUT)/coco-boxes.h5
	ws-boxfill $< --images $(COCO)/$(COCO_TRAIN) $(BOXFILL) --overwrite -o $@
$(foreach how,weak full,$(eval $(call row,coco-$(how),$(OUT)/coco-$(how).h5,$(OUT)/coco-$(how).h5 $(NET))) \
  $(eval $(SEEDS:%=$(OUT)/coco-$(how)-%/model.safetensors): private IMAGES := $(COCO)/$(COCO_TRAIN)))

# VOC after COCO: from COCO's net, but for its classifier
define after
$(eval $(call row,$(1)-$(2),$(OUT)/$(1).h5 $(OUT)/coco-$(2)-%/model.safetensors,$(OUT)/$(1).h5 \
  --init $(OUT)/coco-$(2)-%/model.safetensors $(NET)))
$(eval $(call objects,$(1)-$(2),$(1),$(1)-$(2)))
endef
$(foreach voc,weak full,$(foreach how,weak full,$(call after,$(voc),$(how))))

COCO_ROWS := weak-weak weak-full full-weak full-full
$(eval $(call table,table3-iou,$(COCO_ROWS)))
$(eval $(call scored,table3-ap,$(COCO_ROWS),$(AP)))
$(eval $(call scored,table3-pq,$(COCO_ROWS),--metric pq))
.PHONY: table3
table3: $(OUT)/table3-iou.json $(OUT)/table3-ap.json $(OUT)/table3-pq.json
	$(CHECK)
