# Instances: RSIS (r), RSIS and its pseudo objects of the rest (gr), and W-RSIS (w), which is told
# counts, as the annotator (gw, of N strong images and M with counts). AP at IoU .5 on val.
#   table3    r and gr of the largest N, and all objects
#   table4a   r with nothing known, with tags, with counts, and W-RSIS
#   table4b   W-RSIS with plain and with masked Hungarian matching
#   table5    gr and gw at like budgets; costs are those of `make table1`
#   figure5, figure5-rows   AP of r and gr at every N, against days and beside the paper
#   figure6   AP against days: gr and gw (paper: and the figures of others)
#   figure9   RSIS and W-RSIS as annotators at every N
#   figure11  gw with M from a tenth to all
#   check-instances   tables 3 to 5 and figures 5, 9 and 11 beside the paper's
# Objects are the connected components of each class, unless OBJECTS= names a place of instance maps of
# the training and val images (SegmentationObject and SBD's; ws-cat --from voc reads the former).
ifeq ($(SCALE),paper)
RSIS := --task rsis --backbone resnet101 --epochs 100 --class-from 20 --stop-from 60
WRSIS := --task wrsis --backbone resnet101 --epochs 100
RSIS_N ?= 100 200 400 800 1464
WEAK_N ?= 200
M ?= 912 2279 4559 6838 9118
TABLE5 ?= gr-100 gr-200 gw-100-912 gr-400 gw-200-2279 gr-800 gw-200-6838
else
SHORT := --backbone efficientnet-lite0 --width 64 --crop 129 --max-objects 6 --batch 8 --iterations 1500 --lr 1e-3 \
  --new-rate 10 --bias-rate 10 --schedule poly --flip .5
RSIS := --task rsis $(SHORT) --class-from 0 --stop-from 4
WRSIS := --task wrsis $(SHORT)
RSIS_N ?= 50 100
WEAK_N ?= 50
M ?= 80 540 800
# 50 masks and 540 counts cost what 100 masks do
TABLE5 ?= gr-50 gr-100 gw-50-540
endif
RSIS_LAST := $(lastword $(RSIS_N))

ifdef OBJECTS
$(OUT)/objects.h5: $(TRAIN) | $(NOTED)
	ws-cat $(OBJECTS) --keys $< --overwrite -o $@
$(OUT)/objects-val.h5: $(VAL) | $(NOTED)
	ws-cat $(OBJECTS) --keys $< --overwrite -o $@
else
$(OUT)/objects.h5: $(OUT)/masks.h5
	ws-cat $< --instances --overwrite -o $@
$(OUT)/objects-val.h5: $(VAL) | $(NOTED)
	ws-cat $(TRUTH) --classes voc --truth --keys $< --instances --overwrite -o $@
endif
$(OUT)/counts.tar: $(OUT)/objects.h5
	ws-weaken $< --counts --overwrite -o $@
$(OUT)/counts-val.tar: $(OUT)/objects-val.h5
	ws-weaken $< --tags --counts --overwrite -o $@

# a net and what it draws on val: $(call objects,NAME,PREREQUISITES,OPTIONS OF ws-train,OF ws-predict)
define objects
$(foreach seed,$(SEEDS),$(eval $(call drawn,$(1),$(subst %,$(seed),$(2)),$(subst %,$(seed),$(3)),$(4),$(seed))))
endef
DRAW = ws-predict $(<D) --images $(IMAGES) --device $(DEVICE) --overwrite -o
define drawn
$(OUT)/$(1)-$(5)/model.safetensors: $(OUT)/objects.h5 $(2)
	ws-train $(OUT)/objects.h5 $(3) --images $(IMAGES) --device $(DEVICE) --seed $(5) --resume -o $$(@D)
$(OUT)/$(1)-$(5).tar: $(OUT)/$(1)-$(5)/model.safetensors $(OUT)/counts-val.tar
	$$(DRAW) $$@ $(4) --keys $(VAL) --write masks
endef
# what is told of the val images: counts for W-RSIS; for RSIS tags or counts, in table 4
TOLD := $(OUT)/counts-val.tar
SOME_OF = --keys $(OUT)/subsets/$(1)-%.txt
$(call objects,r-full,,$(RSIS),)
$(foreach n,$(RSIS_N),$(call objects,r-$(n),$(OUT)/subsets/$(n)-%.txt,$(call SOME_OF,$(n)) $(RSIS),) \
  $(call objects,w-$(n),$(OUT)/subsets/$(n)-%.txt,$(call SOME_OF,$(n)) $(WRSIS),$(TOLD)) \
  $(call objects,gr-$(n),$(OUT)/drawn-$(n)-%.tar,$(call SOME_OF,$(n)) --weak $(OUT)/drawn-$(n)-%.tar $(RSIS),))
$(call objects,w-plain-$(RSIS_LAST),$(OUT)/subsets/$(RSIS_LAST)-%.txt,$(call SOME_OF,$(RSIS_LAST)) $(WRSIS) --matching plain,$(TOLD))

# pseudo objects: of the rest by RSIS; by W-RSIS, which is told counts, of M of those that no N has
define pseudo_objects
$(RSIS_N:%=$(OUT)/drawn-%-$(1).tar): $(OUT)/drawn-%-$(1).tar: $(OUT)/r-%-$(1)/model.safetensors $(OUT)/rest-%-$(1).txt
	$$(DRAW) $$@ --keys $(OUT)/rest-$$*-$(1).txt --write instance
$(OUT)/m-%-$(1).txt: $(OUT)/rest-$(RSIS_LAST)-$(1).txt
	$$(call choose,$$*,$(1))
$(OUT)/r-$(RSIS_LAST).tags-$(1).tar $(OUT)/r-$(RSIS_LAST).counts-$(1).tar: \
  $(OUT)/r-$(RSIS_LAST).%-$(1).tar: $(OUT)/r-$(RSIS_LAST)-$(1)/model.safetensors $(TOLD)
	$$(DRAW) $$@ $(TOLD) --keys $(VAL) --write masks --$$*
endef
$(foreach seed,$(SEEDS),$(eval $(call pseudo_objects,$(seed))))
# $(call mixed,N,M)
define mixed
$(foreach seed,$(SEEDS),$(eval $(call told,$(1),$(2),$(seed))))
$(call objects,gw-$(1)-$(2),$(OUT)/told-$(1)-$(2)-%.tar,$(call SOME_OF,$(1)) --weak $(OUT)/told-$(1)-$(2)-%.tar $(RSIS),)
endef
define told
$(OUT)/told-$(1)-$(2)-$(3).tar: $(OUT)/w-$(1)-$(3)/model.safetensors $(OUT)/m-$(2)-$(3).txt $(OUT)/counts.tar
	$$(DRAW) $$@ $(OUT)/counts.tar --keys $(OUT)/m-$(2)-$(3).txt --write instance
endef
$(eval $(foreach row,$(sort $(filter gw-%,$(TABLE5)) $(M:%=gw-$(WEAK_N)-%)),\
  $(call mixed,$(word 2,$(subst -, ,$(row))),$(word 3,$(subst -, ,$(row))))))

AP = ws-eval $(filter %.tar,$^) $(OUT)/objects-val.h5 --metric ap --thresholds .5 --bootstrap $(RESAMPLES) \
  --json > $@
$(OUT)/ap/%.json: $(OUT)/%.tar $(OUT)/objects-val.h5
	mkdir -p $(@D)
	$(AP)
# as `table`, of AP
define ap_table
.PHONY: $(1)
$(1): $(OUT)/$(1).json
	@python3 ../check.py expected.json $(1) $$<
$(call asked,$(1),$(call labels,$(2)))
$(OUT)/$(1).json: $(call labels,$(2)) $(OUT)/objects-val.h5
	$$(AP)
	@$$(NOTE)
endef
R := $(RSIS_LAST)
RG := $(RSIS_N:%=r-%) $(RSIS_N:%=gr-%)
$(eval $(call ap_table,table3,r-$(R) gr-$(R) r-full))
$(eval $(call ap_table,table4a,r-$(R) r-$(R).tags r-$(R).counts w-$(R)))
$(eval $(call ap_table,table4b,w-plain-$(R) w-$(R)))
$(eval $(call ap_table,table5,$(TABLE5)))
$(eval $(call ap_table,figure5-rows,$(RG)))
$(eval $(call ap_table,figure9,$(RSIS_N:%=r-%) $(RSIS_N:%=w-%)))
$(eval $(call ap_table,figure11,$(M:%=gw-$(WEAK_N)-%)))
ap = $(foreach name,$(1),$(SEEDS:%=$(OUT)/ap/$(name)-%.json))
GW := $(sort $(filter gw-%,$(TABLE5)) $(M:%=gw-$(WEAK_N)-%))
.PHONY: figure5 figure6 check-instances
figure5: $(call ap,$(RG))
	ws-budget curve $^ $(PAPER) --plot $(OUT)/figure5.svg
figure6: $(call ap,$(RSIS_N:%=gr-%) $(GW))
	ws-budget curve $^ $(if $(PAPER),others-instances.csv) $(PAPER) --plot $(OUT)/figure6.svg
check-instances: $(foreach name,table3 table4a table4b table5 figure5-rows figure9 figure11,$(OUT)/$(name).json)
	$(CHECK)
