// Where a picture of the comparison is.

import { HOME } from "../shared/page.mjs";

export const cellUrl = (row, column) => `${HOME}/cell/${row}/${column}`;
