/* jinja_filters.h - the filters over sequences, for the one table in jinja_filters.c. */
#ifndef RG_TEXT_JINJA_FILTERS_H
#define RG_TEXT_JINJA_FILTERS_H

#include "text/jinja_builtin.h"

/* The head of a filter function. */
#define RG_JFILTER(name_)                                                                          \
    static enum rg_code name_(struct rg_jrun *r, struct rg_jvalue in, struct rg_jargs *args,       \
                              struct rg_jvalue *out)

rg_jfilter_fn rg_jfilter_batch, rg_jfilter_dictsort, rg_jfilter_first, rg_jfilter_items,
    rg_jfilter_join, rg_jfilter_last, rg_jfilter_list, rg_jfilter_map, rg_jfilter_max,
    rg_jfilter_min, rg_jfilter_reject, rg_jfilter_rejectattr, rg_jfilter_reverse, rg_jfilter_select,
    rg_jfilter_selectattr, rg_jfilter_sort, rg_jfilter_sum, rg_jfilter_unique;

#endif
