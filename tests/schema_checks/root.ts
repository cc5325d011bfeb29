// What payloads are checked against: Slack's own published types, and nothing of ours.
// Only the wrapping is written here, because the package has no one type for "anything an app may send".

import type { HomeView, KnownBlock, ModalView } from '@slack/types';
import type {
  AppsManifestValidateArguments,
  ChatPostEphemeralArguments,
  ChatPostMessageArguments,
  ChatUpdateArguments,
  ViewsOpenArguments,
  ViewsPublishArguments,
  ViewsPushArguments,
  ViewsUpdateArguments,
} from '@slack/web-api';

// The names of all members of a union of argument types: `keyof` alone gives only those they share.
type Names<T> = T extends unknown ? keyof T : never;

// The manifest's type admits any key at its top, which would let a misspelt section pass.
type Named<T> = { [K in keyof T as string extends K ? never : K]: T[K] };

// A view's type admits any object with a `type` among its blocks, which would let every mistake pass.
type Strict<V extends { blocks: unknown }> = Omit<V, 'blocks'> & { blocks: KnownBlock[] };

// The content of a message, by whichever method or `response_url` it is sent.
export type Message = {
  text?: string;
  blocks?: KnownBlock[];
  response_type?: 'in_channel' | 'ephemeral';
};

// The argument names of each method that carries blocks. Their types for `blocks` admit any object with a `type`,
// so the content is checked as `Message` and `View` instead.
export type ArgumentNames = {
  'chat.postMessage'?: Names<ChatPostMessageArguments>;
  'chat.postEphemeral'?: Names<ChatPostEphemeralArguments>;
  'chat.update'?: Names<ChatUpdateArguments>;
  'views.open'?: Names<ViewsOpenArguments>;
  'views.push'?: Names<ViewsPushArguments>;
  'views.update'?: Names<ViewsUpdateArguments>;
  'views.publish'?: Names<ViewsPublishArguments>;
};

export type Root = {
  message?: Message;
  view?: Strict<ModalView> | Strict<HomeView>;
  manifest?: Named<AppsManifestValidateArguments['manifest']>;
  names?: ArgumentNames;
};
