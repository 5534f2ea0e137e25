/** Ids are numbers or texts, as the model has them; whole numbers beyond 2 ** 53 are bigint. */
export type Id = number | bigint | string;

export interface Item {
  /** Place in the model's order, `ids` and `titles`: the popular first. */
  row: number;
  id: Id;
  title: string | null;
}

export interface Recommended extends Item {
  score: number;
}

export interface Term extends Item {
  /** What this item of the history adds to the score. */
  contribution: number;
}

export interface Explanation extends Item {
  score: number;
  /** The largest first, whatever its sign; they add up to the score. */
  terms: Term[];
}

export interface Model {
  /** Number of items. */
  readonly length: number;
  readonly ids: Id[];
  readonly titles: string[] | null;
  /** What the writer knows of the model: data set, figures. */
  readonly details: Record<string, unknown>;
  /** Row of an item, -1 where it is unknown. Whole numbers may be written as text. */
  find(id: Id): number;
  /**
   * The k best items that are not in the history; of equal scores the lower row first. An item that occurs twice
   * counts once; unknown ones are left out and come back in `unknown`.
   */
  recommend(history: Iterable<Id>, k?: number): { items: Recommended[]; unknown: Id[] };
  /** What each item of a history adds to the score of an item; an `Error` where that item is unknown. */
  explain(history: Iterable<Id>, item: Id): Explanation;
}

/** Reads a model.c2f; an `Error` of one line where it is none, or damaged. */
export function read(file: ArrayBuffer | Uint8Array): Model;
