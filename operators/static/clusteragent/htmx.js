// What the policy for scripts and styles forbids, htmx does not try.
"use strict";

htmx.config.includeIndicatorStyles = false;
htmx.config.allowEval = false;
